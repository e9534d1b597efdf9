"""Tokens: JSON Web Tokens made and checked, their keys, and which of them count no more."""
