"""The built-in accounts: passwords, logins, and the refresh tokens that keep a login going."""
