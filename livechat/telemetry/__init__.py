"""What a server tells of itself: counters, traces, and what a log line may hold."""
