"""The wire contract: opcodes, messages, codecs, the session state table. Pure."""
