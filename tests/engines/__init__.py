"""Real Kafka and Elasticsearch for the live tests and the benchmarks."""
