"""Benchmarks: the runs of a plan, each in its own process."""
