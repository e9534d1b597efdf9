"""How much one address, or one user, may ask of the server: buckets by name, in bounded memory."""
