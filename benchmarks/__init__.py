"""How fast, measured against what one would use instead, in the same run. `python -m benchmarks.<name> --json`."""
