"""What benchmarks share: processes, pacing, lean clients that are not the bottleneck, figures."""
