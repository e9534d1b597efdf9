"""Owns the session description from which a player learns where one audio stream comes in, and under which key.

It must not know who plays, nor where the text goes: with a key in it, that has to be a private place.

Source: RFC 8866 (SDP), RFC 4568 (`a=crypto`, the key inline), RFC 5761 (`a=rtcp-mux`), RFC 7587 (Opus).

    v=0
    o=- SESSION VERSION IN IP4 HOST         who describes; the version counts up with every change
    s=NAME
    c=IN IP4 HOST                           where the player receives ...
    t=0 0                                   ... for ever ...
    m=audio PORT RTP/SAVP 111               ... and on which port; RTP/AVP without a key
    a=rtpmap:111 opus/48000/2
    a=crypto:1 PROFILE inline:KEY           base64 of master key and salt
    a=rtcp-mux                              RTCP comes to the same port
    a=recvonly
"""

from __future__ import annotations

from typing import Final

import attrs

from livechat.protocol.types import Address

OPUS_CLOCK_HZ: Final = 48_000
"""The RTP clock of Opus, whatever it was made of (RFC 7587 section 4.1)."""
OPUS_PAYLOAD_TYPE: Final = 111
"""Dynamic, so by agreement only; this one is what browsers use."""


@attrs.frozen
class Crypto:
    """What one SRTP stream is protected with."""

    profile: str
    """A name of RFC 4568 or RFC 7714, which are also the names of the protocol."""
    key: str = attrs.field(repr=False)
    """Base64 of master key ‖ master salt."""


@attrs.frozen
class AudioSession:
    """One Opus stream that somebody is about to receive."""

    name: str
    """Shown by players; one line."""
    address: Address
    """Where it is received: an IP literal of the player's own machine, and a UDP port."""
    crypto: Crypto | None
    """None: it comes in the clear."""
    session_id: int = 0
    """The same for all versions of one description, a number below 2^63."""
    version: int = 1
    payload_type: int = OPUS_PAYLOAD_TYPE

    def serialize(self) -> str:
        """Return the description's text; its lines end in CR LF, as RFC 8866 section 5 wants it."""
        host, port = self.address
        family = "IP6" if ":" in host else "IP4"
        profile = "AVP" if self.crypto is None else "SAVP"
        name = " ".join(self.name.split()) or "-"
        lines = [
            "v=0",
            f"o=- {self.session_id} {self.version} IN {family} {host}",
            f"s={name}",
            f"c=IN {family} {host}",
            "t=0 0",
            f"m=audio {port} RTP/{profile} {self.payload_type}",
            f"a=rtpmap:{self.payload_type} opus/{OPUS_CLOCK_HZ}/2",
        ]
        if self.crypto is not None:
            lines.append(f"a=crypto:1 {self.crypto.profile} inline:{self.crypto.key}")
        lines += ["a=rtcp-mux", "a=recvonly"]
        return "".join(f"{line}\r\n" for line in lines)
