"""The Trio client: reconnect, resume, repair of holes, sends that arrive once. Uses protocol only."""
