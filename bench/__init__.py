"""The benchmarks: Floodmark compared with its alternatives. See README.md."""
