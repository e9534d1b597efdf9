"""Relays to compare with: what a Python developer could write, or put together, instead.

Each is a program: `python -m benchmarks.peers.NAME` reads its rooms as JSON on standard input (see
`benchmarks.peers.rooms`), prints the UDP port it listens on, and relays until it is killed.
"""
