"""Owns the load of media workers: packets made before the clock starts, and the sockets they go from and to.

It must not measure. One listener of each channel is a socket that reads and checks every packet; the others share
one whose packets the kernel throws away at once (a classic BPF program of one instruction: return 0), so that the
load itself costs little beside what it makes a relay do.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

import trio
from pylibsrtp import Policy, Session

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ChannelRules, MediaPeer
from livechat.media.workers.plane import WorkerMediaPlane
from livechat.protocol.types import Address, ChannelId, SessionId, UserId
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import RtpHeader
from livechat.srtp.profile import SrtpProfile

PAYLOAD_BYTES: Final = 160
TICKS: Final = 160
WINDOW_PACKETS: Final = 24
"""On their way at a time in a channel: enough to keep a worker busy, few enough for every buffer."""
SOCKET_BUFFER_BYTES: Final = 4 << 20
SO_ATTACH_FILTER: Final = 26
"""Of Linux, `asm-generic/socket.h`."""
_RETURN_CONSTANT: Final = 0x06
"""BPF_RET | BPF_K: so many bytes of a packet are kept."""
_POLICIES: Final = {
    SrtpProfile.AES_CM_128_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
}


class Lost(Exception):
    """A packet did not arrive, or is not what was sent; the text says which."""


def open_sink() -> socket.socket:
    """Open a UDP socket that gets nothing, whatever is sent to it."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN_CONSTANT, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    sock.bind(("127.0.0.1", 0))
    return sock


class ChannelLoad:
    """One channel: a talker, and `fan_out` listeners with a key each.

    Args:
        sink: where all listeners but one are.
    """

    def __init__(
        self, plane: WorkerMediaPlane, name: str, profile: SrtpProfile, fan_out: int, sink: Address
    ) -> None:
        self.channel_id = ChannelId(name)
        self.received = 0
        self._profile = profile
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self._talker = self._join(plane, "talker", self._socket.getsockname())
        self._listener = self._join(plane, "listener", self._socket.getsockname())
        for number in range(1, fan_out):
            self._join(plane, f"listener-{number}", sink)
        self._server = plane.endpoint(self.channel_id, "127.0.0.1")
        self._receiver = _session(profile, self._listener.server_key, Policy.SSRC_ANY_INBOUND)
        self._sender = _session(profile, self._talker.client_key, Policy.SSRC_ANY_OUTBOUND)
        self._made = 0
        self._packets: list[bytes] = []

    def _join(self, plane: WorkerMediaPlane, user: str, address: Address) -> MediaPeer:
        hub: MediaPeerHub = plane.hub
        peer = hub.add(
            self.channel_id,
            UserId(user),
            SessionId(user),
            profile=self._profile,
            now=trio.current_time(),
            address=address,
        )
        plane.open(peer, ChannelRules())
        return peer

    def prepare(self, count: int) -> None:
        """Make and protect the next packets, by libsrtp."""
        self._packets = [self._protect(number) for number in range(self._made, self._made + count)]
        self.received = 0

    def _protect(self, number: int) -> bytes:
        header = RtpHeader(sequence=number & 0xFFFF, timestamp=number * TICKS, ssrc=self._talker.ssrc)
        packet: bytes = self._sender.protect(header.serialize() + b"%d".ljust(PAYLOAD_BYTES, b".") % number)
        return packet

    async def run(self, timeout_s: float) -> None:
        """Send all that is prepared, as fast as it arrives at the listener that reads.

        Raises:
            Lost: something did not arrive within the timeout, or wrongly.
        """
        total, sent = len(self._packets), min(WINDOW_PACKETS, len(self._packets))
        for packet in self._packets[:sent]:
            self._socket.sendto(packet, self._server)
        while self.received < total:
            with trio.move_on_after(timeout_s) as scope:
                await trio.lowlevel.wait_readable(self._socket)
            if scope.cancelled_caught:
                raise Lost(f"{self.channel_id}: packet {self.received} of {total} did not arrive")
            arrived = self._drain()
            more = self._packets[sent : sent + arrived]
            sent += len(more)
            for packet in more:
                self._socket.sendto(packet, self._server)
        self._made += total

    def _drain(self) -> int:
        before = self.received
        while True:
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return self.received - before
            if classify(data) is not Kind.RTP:
                continue
            number = int.from_bytes(data[4:8], "big") // TICKS
            if number != self._made + self.received:
                raise Lost(f"{self.channel_id}: expected packet {self._made + self.received}, got {number}")
            if self.received % 64 == 0 and self._receiver.unprotect(data)[12:].rstrip(b".") != b"%d" % number:
                raise Lost(f"{self.channel_id}: packet {number} is not what was sent")
            self.received += 1

    @property
    def total(self) -> int:
        """Packets that were sent so far, in all rounds."""
        return self._made

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _session(profile: SrtpProfile, key: bytes, direction: int) -> Session:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=_POLICIES[profile])
    return Session(policy)
