"""The WebSocket gateway: listener, connection, egress queue, fan-out."""
