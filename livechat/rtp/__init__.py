"""RTP and RTCP packets and the first-byte demultiplexer (RFC 3550, RFC 5761, RFC 7983). Pure."""
