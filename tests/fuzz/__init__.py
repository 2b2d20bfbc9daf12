"""Fuzzers of the core in C, guided by coverage, and what builds and runs them."""
