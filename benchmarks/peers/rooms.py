"""Owns what all peers have in common: their rooms from standard input, their socket, the names of profiles.

It must not relay.
"""

from __future__ import annotations

import json
import socket
import sys
from base64 import b64decode
from typing import Any

import attrs
from pylibsrtp import Policy, Session

SOCKET_BUFFER_BYTES = 4 << 20
"""The same as livechat asks for."""

POLICIES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


@attrs.frozen
class Listener:
    """Who hears a room's talker."""

    key: bytes = attrs.field(repr=False)
    address: tuple[str, int]


@attrs.frozen
class Room:
    """One talker and who hears it."""

    ssrc: int
    key: bytes = attrs.field(repr=False)
    listeners: list[Listener]


def read_rooms() -> tuple[str, list[Room]]:
    """Return the profile's name and the rooms from standard input."""
    document: dict[str, Any] = json.load(sys.stdin)
    return document["profile"], [
        Room(
            room["ssrc"],
            b64decode(room["key"]),
            [
                Listener(b64decode(listener["key"]), (listener["host"], listener["port"]))
                for listener in room["listeners"]
            ],
        )
        for room in document["rooms"]
    ]


def open_socket() -> socket.socket:
    """Open the media socket, and say where it is."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    return sock


def inbound(profile: str, key: bytes) -> Session:
    """Return a libsrtp session that opens."""
    return Session(Policy(key, Policy.SSRC_ANY_INBOUND, srtp_profile=POLICIES[profile]))


def outbound(profile: str, key: bytes) -> Session:
    """Return a libsrtp session that protects."""
    return Session(Policy(key, Policy.SSRC_ANY_OUTBOUND, srtp_profile=POLICIES[profile]))
