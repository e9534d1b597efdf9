"""SRTP and SRTCP: key derivation, rollover, replay window, contexts (RFC 3711, RFC 7714, RFC 6188). Pure."""
