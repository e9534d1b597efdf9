"""HTTP on the gateway's own TCP port: an ASGI host on h11 and the application it serves."""
