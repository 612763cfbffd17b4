"""The implementations that the benchmarks compare with, and how they measure."""
