"""What a text holds that is nobody else's business: secrets and private data. Pure; shared by the stream and the datasets."""
