"""What the benchmarks compare with, and how they measure."""
