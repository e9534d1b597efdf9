"""The UDP relay: find the peer, authenticate, decrypt once, re-encrypt for every other peer."""
