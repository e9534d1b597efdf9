"""Benchmarks: each starts its own servers and clients, and prints what it measured."""
