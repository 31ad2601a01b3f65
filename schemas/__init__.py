"""The contract: what crosses a process boundary. No I/O; the standard library, msgspec and codecs only."""
