"""Owns the load of voice: one talker, many listeners, each a plain UDP socket with its own key.

It must not measure; it notes what arrives, and at the end opens a sample of it.
"""

from __future__ import annotations

import base64
import socket
from functools import partial
from typing import Any, Final

import trio

from benchmarks.support.arrivals import Arrivals, Drain, OnData
from benchmarks.support.chat import each
from benchmarks.support.gateway import CHANNEL_CREATE, CHANNEL_JOIN, GatewayClient
from benchmarks.support.load import Tell
from benchmarks.support.scenario import Assignment
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import RtpHeader, parse_untrusted
from livechat.srtp.context import SrtpReceiver, SrtpSender

CHANNEL: Final = "voice"
PAYLOAD_BYTES: Final = 160
"""20 ms of G.711."""
TICKS: Final = 160
"""RTP clock ticks a packet. The relay leaves the timestamp alone, so it tells which packet this is."""
INDEX_END: Final = 2**32 // TICKS
SAMPLE_EVERY: Final = 20
"""One packet in so many is kept and opened at the end: near enough for an index estimate (2^15)."""
SAMPLED_LISTENERS: Final = 4
SOCKET_BUFFER_BYTES: Final = 4 << 20


class VoiceLoad:
    """One talker, heard by `fan_out` listeners."""

    def __init__(self, assignment: Assignment, drain: Drain) -> None:
        profile = assignment.scenario.profile
        assert profile is not None
        self.fan_out = assignment.scenario.fan_out
        self.arrivals = [Arrivals() for _ in range(self.fan_out)]
        self._talker = GatewayClient(drain, "talker")
        self._listeners = [GatewayClient(drain, f"listener-{number}") for number in range(self.fan_out)]
        self.clients = [self._talker, *self._listeners]
        self._assignment = assignment
        self._drain = drain
        self._profile = profile
        self._sockets: list[socket.socket] = []
        self._samples: list[list[bytes]] = [[] for _ in range(self.fan_out)]
        self._keys = [b""] * self.fan_out
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._ssrc = 0
        self._sender: SrtpSender | None = None
        self._first = 0
        self._packets: list[bytes] = []

    async def set_up(self, tell: Tell) -> None:
        """Connect and join everyone; the talker last."""
        url, token = self._assignment.url, self._assignment.token
        await each((partial(client.connect, url, token) for client in self.clients), "connected", tell)
        await self._talker.request(CHANNEL_CREATE, {"channel_id": CHANNEL, "capacity": len(self.clients)})
        await each((partial(self._listen, number) for number in range(self.fan_out)), "joined", tell)
        media = await self._join(self._talker, None)
        self._ssrc = media["ssrc"]
        self._sender = SrtpSender(self._profile, base64.b64decode(media["client_key"]))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._socket.connect((media["host"], media["port"]))

    async def _listen(self, number: int) -> None:
        client = self._listeners[number]
        sock = socket.socket(type=socket.SOCK_DGRAM)
        self._sockets.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.bind((client.own_host, 0))
        samples = self._samples[number] if number < SAMPLED_LISTENERS else None
        self._drain.add(sock, noting(self.arrivals[number], samples))
        media = await self._join(client, sock)
        self._keys[number] = base64.b64decode(media["server_key"])

    async def _join(self, client: GatewayClient, sock: socket.socket | None) -> dict[str, Any]:
        offer: dict[str, Any] = {"profiles": [self._profile]}
        if sock is not None:
            host, port = sock.getsockname()
            offer["address"] = {"host": host, "port": port}
        joined = await client.request(CHANNEL_JOIN, {"channel_id": CHANNEL, "media": offer})
        media: dict[str, Any] = joined["media"]
        return media

    def prepare(self, first: int, count: int) -> None:
        """Make and protect the packets."""
        assert self._sender is not None
        assert first + count <= INDEX_END
        self._first = first
        self._packets = [
            self._sender.protect(
                RtpHeader(sequence=index & 0xFFFF, timestamp=index * TICKS, ssrc=self._ssrc).serialize()
                + payload_of(index)
            )
            for index in range(first, first + count)
        ]

    async def send(self, index: int) -> None:
        """Send a packet; waits only while the system's buffer is full."""
        while True:
            try:
                self._socket.send(self._packets[index - self._first])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                return

    async def facts(self) -> dict[str, Any]:
        """Open the samples as a listener would. Sending goes on working afterwards.

        Raises:
            AssertionError, SrtpError: a packet is not what was sent.
        """
        opened = 0
        for key, samples in zip(self._keys, self._samples, strict=True):
            receiver = SrtpReceiver(self._profile, key)
            for sample in samples:
                header, payload = parse_untrusted(receiver.unprotect(sample))
                assert payload == payload_of(header.timestamp // TICKS)
                opened += 1
        return {"payload_bytes": PAYLOAD_BYTES, "samples_opened": opened}


def payload_of(index: int) -> bytes:
    """Return what packet number `index` carries."""
    return str(index).encode().ljust(PAYLOAD_BYTES, b".")


def noting(arrivals: Arrivals, samples: list[bytes] | None) -> OnData:
    """Return what notes the packets that one listener gets, and keeps some."""

    def on_data(data: bytes, now_ns: int) -> None:
        if classify(data) is not Kind.RTP:
            return
        index = int.from_bytes(data[4:8], "big") // TICKS
        arrivals.note(index, now_ns)
        if samples is not None and index % SAMPLE_EVERY == 0:
            samples.append(data)

    return on_data
