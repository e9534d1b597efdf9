"""TLS 1.3 key updates that ask for an answer, as no TLS library of Python's can send them.

Source: RFC 8446, sections 4.6.3, 5.2, 5.3, 7.1 and 7.2.
"""

from __future__ import annotations

import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

APPLICATION_DATA = 0x17
HANDSHAKE = 0x16
KEY_UPDATE_REQUESTED = b"\x18\x00\x00\x01\x01"
TAG_BYTES = 16
KEY_BYTES = 32
NONCE_BYTES = 12


class KeyUpdates:
    """The records of a client that has not sent any data before.

    Args:
        key_log: what the client's context has logged; of a connection of TLS_AES_256_GCM_SHA384.
    """

    def __init__(self, key_log: Path) -> None:
        lines = [line.split() for line in key_log.read_text().splitlines()]
        (secret,) = [bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
        self._secret = secret

    def next(self) -> bytes:
        """Return the next record, after which a new key holds and records count from 0."""
        cipher = AESGCM(self._expand("key", KEY_BYTES))
        plain = KEY_UPDATE_REQUESTED + bytes((HANDSHAKE,))
        head = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(plain) + TAG_BYTES)
        record = head + cipher.encrypt(self._expand("iv", NONCE_BYTES), plain, head)
        self._secret = self._expand("traffic upd", len(self._secret))
        return record

    def _expand(self, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = struct.pack("!HB", size, len(name)) + name + b"\0"
        return HKDFExpand(hashes.SHA384(), size, info).derive(self._secret)
