"""Owns what can go wrong with a protected packet: one class per reason to refuse it.

It must not know the packet's sender or what is done about a refusal. No error here ever changed the
state of the context that raised it.
"""

from __future__ import annotations


class SrtpError(Exception):
    """A packet was refused. The message holds lengths and indexes, never key material."""


class MalformedPacket(SrtpError):
    """The bytes are not a packet of this kind, or too short for what they announce."""


class ReplayError(SrtpError):
    """The packet's index was used before, or lies so far behind that nobody can tell."""


class AuthenticationError(SrtpError):
    """The tag does not match: another key, another index, or changed on its way."""


class KeyLifetimeExceeded(SrtpError):
    """The key has protected all the packets it may: 2^48 of SRTP or 2^31 of SRTCP (RFC 3711 section 9.2)."""


class TooManyStreams(SrtpError):
    """An authentic packet of one more ssrc than a receiver keeps state for."""
