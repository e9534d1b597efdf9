"""The resources of the HTTP API, one module each, with its `ENDPOINTS`."""
