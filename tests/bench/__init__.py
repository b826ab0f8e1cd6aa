"""Benchmarks: a program for each figure, with a baseline of the same run and a check of truth."""
