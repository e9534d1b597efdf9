"""A relay of Trio and `cryptography` as one would write it first: await each packet, and make a cipher for it.

Nothing is wrong with it but its speed. Unlike livechat it has no replay window.
"""

from __future__ import annotations

import hashlib
import hmac

import trio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.peers.rooms import open_socket, read_rooms
from livechat.srtp.kdf import derive_session_keys
from livechat.srtp.profile import SrtpProfile

HEADER_BYTES = 12


class Keys:
    """One direction's keys. Only RTP headers without extension or sources: the load has no others."""

    def __init__(self, profile: SrtpProfile, master: bytes) -> None:
        self._profile = profile
        self._keys, _ = derive_session_keys(profile, master)

    def open(self, data: bytes, rollover: int) -> bytes | None:
        """Return the RTP packet in an SRTP packet; None if it is not authentic."""
        header = data[:HEADER_BYTES]
        if self._profile.is_aead:
            try:
                return header + AESGCM(self._keys.encryption).decrypt(
                    self._nonce(header, rollover), data[HEADER_BYTES:], header
                )
            except InvalidTag:
                return None
        body, tag = data[: -self._profile.rtp_tag_bytes], data[-self._profile.rtp_tag_bytes :]
        if not hmac.compare_digest(tag, self._tag(body, rollover)):
            return None
        return header + self._crypt(header, body[HEADER_BYTES:], rollover)

    def protect(self, packet: bytes, rollover: int) -> bytes:
        """Return the SRTP packet of an RTP packet."""
        header, payload = packet[:HEADER_BYTES], packet[HEADER_BYTES:]
        if self._profile.is_aead:
            return header + AESGCM(self._keys.encryption).encrypt(self._nonce(header, rollover), payload, header)
        body = header + self._crypt(header, payload, rollover)
        return body + self._tag(body, rollover)

    def _position(self, header: bytes, rollover: int) -> int:
        ssrc, sequence = int.from_bytes(header[8:12], "big"), int.from_bytes(header[2:4], "big")
        return ssrc << 48 | rollover << 16 | sequence

    def _nonce(self, header: bytes, rollover: int) -> bytes:
        salt = int.from_bytes(self._keys.salt, "big")
        return (salt ^ self._position(header, rollover)).to_bytes(12, "big")

    def _crypt(self, header: bytes, payload: bytes, rollover: int) -> bytes:
        salt = int.from_bytes(self._keys.salt, "big")
        iv = ((salt ^ self._position(header, rollover)) << 16).to_bytes(16, "big")
        return Cipher(algorithms.AES(self._keys.encryption), modes.CTR(iv)).encryptor().update(payload)

    def _tag(self, body: bytes, rollover: int) -> bytes:
        mac = hmac.new(self._keys.authentication, body + rollover.to_bytes(4, "big"), hashlib.sha1)
        return mac.digest()[: self._profile.rtp_tag_bytes]


class Talker:
    """A room's talker, and who hears it."""

    def __init__(self, keys: Keys, legs: list[tuple[Keys, tuple[str, int]]]) -> None:
        self.keys = keys
        self.legs = legs
        self._rollover = 0
        self._highest = 0

    def rollover_of(self, data: bytes) -> int:
        """Return the rollover count that a packet belongs to, and keep it."""
        sequence = int.from_bytes(data[2:4], "big")
        if sequence < 0x4000 and self._highest > 0xC000:
            self._rollover += 1
            self._highest = sequence
        elif sequence > 0xC000 and self._highest < 0x4000 and self._rollover > 0:
            return self._rollover - 1
        self._highest = max(self._highest, sequence)
        return self._rollover


async def main() -> None:
    """Relay until killed."""
    name, rooms = read_rooms()
    profile = SrtpProfile(name)
    talkers = {
        room.ssrc: Talker(
            Keys(profile, room.key),
            [(Keys(profile, listener.key), listener.address) for listener in room.listeners],
        )
        for room in rooms
    }
    sock = trio.socket.from_stdlib_socket(open_socket())
    while True:
        data, _ = await sock.recvfrom(2048)
        talker = talkers.get(int.from_bytes(data[8:12], "big"))
        if talker is None:
            continue
        rollover = talker.rollover_of(data)
        packet = talker.keys.open(data, rollover)
        if packet is None:
            continue
        for keys, address in talker.legs:
            await sock.sendto(keys.protect(packet, rollover), address)


if __name__ == "__main__":
    trio.run(main)
