"""Durable truth: channels, members, messages with their `seq`, applied as one log of operations."""
