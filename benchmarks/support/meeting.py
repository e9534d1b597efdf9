"""Owns the load of a meeting: `python -m benchmarks.support.meeting`, with a `Meeting` on its standard input.

Every member sends packets on a schedule, each with an audio level: a few speak, the others send what a microphone
in a quiet room gives. All listen, each on a socket and with a key of its own. At the end it prints the result as
JSON. It must not start processes.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import attrs
import trio

from benchmarks.support.arrivals import Drain
from benchmarks.support.chat import each
from benchmarks.support.cpu import cpu_cores, cpu_times
from benchmarks.support.gateway import CHANNEL_CREATE, CHANNEL_JOIN, GatewayClient, keep_alive
from benchmarks.support.pacing import Metronome, open_metronome
from benchmarks.support.scenario import Progress
from livechat.rtp import extensions
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import RtpHeader
from livechat.srtp.context import SrtpReceiver, SrtpSender

CHANNEL: Final = "meeting"
PAYLOAD: Final = bytes(160)
SPEAKING_LEVEL: Final = 0x80 | 20
"""With the voice flag, 20 dB below full scale."""
SILENT_LEVEL: Final = 70
WARM_UP_S: Final = 2.0
"""Not counted, and at most as long as what is: who is heard is settled by then."""
SILENCE_S: Final = 0.5
"""Without an arrival for so long, what is missing counts as lost."""
SOCKET_BUFFER_BYTES: Final = 4 << 20


@attrs.frozen
class Meeting:
    """What is to be measured."""

    url: str
    token: str = attrs.field(repr=False)
    server_pid: int
    members: int
    speakers: int
    """Members who speak, all the time."""
    max_speakers: int | None
    """The channel's; None: everybody is forwarded."""
    rate_hz: float
    """Packets a second from each member."""
    seconds: float
    profile: str


class _Member:
    """One user with a connection, a socket and keys."""

    def __init__(self, number: int, meeting: Meeting, drain: Drain) -> None:
        self.client = GatewayClient(drain, f"member-{number}")
        self.heard: Counter[int] = Counter()
        """Packets by ssrc."""
        self.sample = b""
        """The last packet that was heard, to be opened at the end."""
        self.packets: list[bytes] = []
        self.ssrc = 0
        self._level = SPEAKING_LEVEL if number < meeting.speakers else SILENT_LEVEL
        self._profile = meeting.profile
        self._drain = drain
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._receiver: SrtpReceiver | None = None
        self._sender: SrtpSender | None = None

    async def join(self) -> None:
        """Join with voice, at a stated address."""
        self._socket.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        self._socket.bind((self.client.own_host, 0))
        host, port = self._socket.getsockname()
        offer = {"profiles": [self._profile], "address": {"host": host, "port": port}}
        joined = await self.client.request(CHANNEL_JOIN, {"channel_id": CHANNEL, "media": offer})
        media = joined["media"]
        self.ssrc = media["ssrc"]
        self._sender = SrtpSender(self._profile, base64.b64decode(media["client_key"]))
        self._receiver = SrtpReceiver(self._profile, base64.b64decode(media["server_key"]))
        self._socket.connect((media["host"], media["port"]))
        self._drain.add(self._socket, self._note)

    def _note(self, data: bytes, _now_ns: int) -> None:
        if classify(data) is Kind.RTP:
            self.heard[int.from_bytes(data[8:12], "big")] += 1
            self.sample = data

    def prepare(self, count: int) -> None:
        """Make and protect so many packets."""
        assert self._sender is not None
        extension = extensions.serialize([(1, bytes([self._level]))])
        for sequence in range(count):
            header = RtpHeader(sequence & 0xFFFF, sequence * 160, self.ssrc, extension=extension)
            self.packets.append(self._sender.protect(header.serialize() + PAYLOAD))
        self.packets.reverse()

    async def send(self) -> None:
        """Send the next packet; waits only while the system's buffer is full."""
        packet = self.packets.pop()
        while True:
            try:
                self._socket.send(packet)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                return

    def open_sample(self) -> int:
        """Open the last packet heard, as a listener would; return how many that were.

        Raises:
            SrtpError: it can't be opened.
        """
        if not self.sample:
            return 0
        assert self._receiver is not None
        assert self._receiver.unprotect(self.sample).endswith(PAYLOAD)
        return 1


async def run(meeting: Meeting) -> dict[str, Any]:
    """Set the meeting up, let it settle, and measure.

    Returns:
        What `benchmarks.speakers.document` says of a row, as far as it is known here.
    """
    drain = Drain()
    members = [_Member(number, meeting, drain) for number in range(meeting.members)]
    clients = [member.client for member in members]
    async with open_metronome() as metronome, trio.open_nursery() as nursery:
        nursery.start_soon(drain.run)
        await each((partial(client.connect, meeting.url, meeting.token) for client in clients), "", _quiet)
        channel = {"channel_id": CHANNEL, "capacity": meeting.members, "max_speakers": meeting.max_speakers}
        await clients[0].request(CHANNEL_CREATE, channel)
        await each((member.join for member in members), "", _quiet)
        nursery.start_soon(keep_alive, clients)
        rounds = max(1, round(meeting.seconds * meeting.rate_hz))
        warm_up = max(1, round(min(WARM_UP_S, meeting.seconds) * meeting.rate_hz))
        for member in members:
            member.prepare(warm_up + rounds)
        await _send(meeting, members, metronome, warm_up)
        for member in members:
            member.heard.clear()
        before = cpu_times(meeting.server_pid)
        await _send(meeting, members, metronome, rounds)
        after = cpu_times(meeting.server_pid)
        nursery.cancel_scope.cancel()
    return _evaluate(meeting, members, rounds) | {
        "cpu_cores": cpu_cores(before, after),
        "server_cpu_s": round(after.server_s - before.server_s, 2),
    }


async def _send(meeting: Meeting, members: Sequence[_Member], metronome: Metronome, rounds: int) -> None:
    """Have all members send so many packets, evenly spread, and wait for what arrives of them."""
    interval_ns = 1e9 / meeting.rate_hz / meeting.members
    begin_ns = time.perf_counter_ns()
    for number in range(rounds * meeting.members):
        await metronome.wait_until(begin_ns + round(number * interval_ns))
        await members[number % meeting.members].send()
    before, heard = -1, 0
    while heard != before:
        before = heard
        await trio.sleep(SILENCE_S)
        heard = sum(member.heard.total() for member in members)


def _evaluate(meeting: Meeting, members: Sequence[_Member], rounds: int) -> dict[str, Any]:
    speaking = {member.ssrc for member in members[: meeting.speakers]}
    of_speakers = sum(count for member in members for ssrc, count in member.heard.items() if ssrc in speaking)
    of_silent = sum(member.heard.total() for member in members) - of_speakers
    packets = rounds * meeting.members
    listeners = meeting.members - 1
    heard = meeting.members if meeting.max_speakers is None else meeting.speakers
    return {
        "packets": packets,
        "expected": rounds * heard * listeners,
        "received": of_speakers + of_silent,
        "of_silent": of_silent,
        "samples_opened": sum(member.open_sample() for member in members),
    }


def _quiet(_progress: Progress) -> None:
    """Say nothing of how far it is."""


if __name__ == "__main__":
    print(json.dumps(trio.run(run, Meeting(**json.loads(sys.stdin.read())))), flush=True)
