"""permessage-deflate, with two clients that have nothing in common: websockets and wsproto's own extension."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
import websockets.sync.client
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

import livechat
from livechat.protocol.opcodes import Op
from tests.protocol.test_deflate import deflated
from tests.support.conformance import CONTINUATION
from tests.support.raw import BINARY, TEXT, masked, raw_connected
from tests.support.server import DEADLINE_S, SECRET, running_server

ON = {"compression": "permessage-deflate", "debug_echo": True}
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
CONTENT = "one and the same, again and again; " * 40
ECHO = "/debug/echo"


class WsprotoClient:
    """A client on wsproto alone."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self.deflate = PerMessageDeflate()
        self.bytes_in = 0

    async def open(self, target: str) -> None:
        await self.send(Request(host="x", target=target, extensions=[self.deflate]))
        accepted = await self._event()
        assert isinstance(accepted, AcceptConnection)

    async def send(self, event: Event) -> None:
        await self._stream.send_all(self._ws.send(event))

    async def message(self) -> str | bytes:
        parts: list[Any] = []
        while True:
            event = await self._event()
            assert isinstance(event, Message), event
            parts.append(event.data)
            if event.message_finished:
                return parts[0][:0].join(parts)  # type: ignore[no-any-return]

    async def packet(self, op: int) -> dict[str, Any]:
        while True:
            message = await self.message()
            packet = json.loads(message) if isinstance(message, str) else msgpack.unpackb(message)
            if packet["op"] == op:
                data: dict[str, Any] = packet["d"]
                return data

    async def _event(self) -> Event:
        with trio.fail_after(DEADLINE_S):
            while not self._events:
                data = await self._stream.receive_some(65536)
                assert data
                self.bytes_in += len(data)
                self._ws.receive_data(data)
                self._events += self._ws.events()
        return self._events.pop(0)


@asynccontextmanager
async def wsproto_connected(server: livechat.Server, target: str) -> AsyncGenerator[WsprotoClient]:
    stream = await trio.open_tcp_stream(*server.addresses.tcp[0])
    async with stream:
        client = WsprotoClient(stream)
        await client.open(target)
        yield client


def of(user_id: str) -> str:
    return f"/ws?token={SECRET}&user_id={user_id}"


def packet(op: int, **d: Any) -> str:
    return json.dumps({"op": op, "d": d})


async def test_a_message_reaches_those_with_and_without_compression_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path, gateway=ON) as server:
        url = server.url.removesuffix("/ws")

        def talk() -> tuple[list[int], list[str]]:
            """Publish by websockets, and read back what was published."""
            with websockets.sync.client.connect(url + of("alice")) as ws:
                assert ws.response is not None
                assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
                ws.send(packet(Op.CHANNEL_CREATE, channel_id="room"))
                ws.send(packet(Op.CHANNEL_JOIN, channel_id="room"))
                for number in range(20):
                    # Compressed and, being short, not compressed; each in its place.
                    ws.send(
                        packet(Op.MESSAGE_CREATE, channel_id="room", content=f"{number}" + CONTENT * (number % 2))
                    )
                seqs: list[int] = []
                contents: list[str] = []
                while len(seqs) < 20:
                    got = json.loads(ws.recv(DEADLINE_S))
                    if got["op"] == Op.MESSAGE_EVENT:
                        seqs.append(got["d"]["seq"])
                        contents.append(got["d"]["content"])
                return seqs, contents

        expected = [f"{number}" + CONTENT * (number % 2) for number in range(20)]
        async with (
            wsproto_connected(server, of("bob")) as bob,
            raw_connected(server, f"?token={SECRET}&user_id=carol") as carol,
        ):
            assert b"extensions" not in carol.head.lower()
            await bob.packet(Op.READY)
            await bob.send(TextMessage(packet(Op.CHANNEL_CREATE, channel_id="room", pad=CONTENT)))
            await bob.send(TextMessage(packet(Op.CHANNEL_JOIN, channel_id="room")))
            while (await bob.packet(Op.ACK))["op"] != Op.CHANNEL_JOIN:
                pass
            await carol.send(masked(TEXT, packet(Op.CHANNEL_JOIN, channel_id="room").encode()))
            assert (await bob.packet(Op.CHANNEL_EVENT))["member"]["user_id"] == "carol"
            seqs, contents = await trio.to_thread.run_sync(talk)
            assert contents == expected
            assert seqs == list(range(seqs[0], seqs[0] + 20))
            for content in expected:
                assert (await bob.packet(Op.MESSAGE_EVENT))["content"] == content
            assert bob.deflate.enabled()
            assert bob.bytes_in < len("".join(expected))
            heard: list[str] = []
            while len(heard) < 20:
                frame = await carol.frame()
                assert frame is not None
                assert frame[0] == TEXT, "who has not asked gets nothing compressed"
                got = json.loads(frame[1])
                if got["op"] == Op.MESSAGE_EVENT:
                    heard.append(got["d"]["content"])
            assert heard == expected


async def test_two_clients_are_echoed_whatever_they_send(tmp_path: Path) -> None:
    texts = ["", "x", "κόσμε" * 1000, CONTENT, "a" * 1_000_000]
    async with running_server(tmp_path, gateway=ON) as server:
        url = server.url.removesuffix("/ws") + ECHO

        def talk() -> None:
            with websockets.sync.client.connect(url, max_size=None) as ws:
                for text in texts:
                    ws.send(text)
                    assert ws.recv(DEADLINE_S) == text
                    ws.send(text.encode())
                    assert ws.recv(DEADLINE_S) == text.encode()
                ws.send(iter(["frag", "ments ", CONTENT]))
                assert ws.recv(DEADLINE_S) == "fragments " + CONTENT

        await trio.to_thread.run_sync(talk)
        async with wsproto_connected(server, ECHO) as client:
            for text in texts:
                await client.send(TextMessage(text))
                assert await client.message() == text
                await client.send(BytesMessage(text.encode()))
                assert await client.message() == text.encode()
            await client.send(TextMessage("frag", message_finished=False))
            await client.send(TextMessage("ments", message_finished=True))
            assert await client.message() == "fragments"
            await client.send(CloseConnection(1000))


async def test_nothing_is_agreed_on_unless_it_is_switched_on(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, raw_connected(server, headers=OFFER) as client:
        assert b"extensions" not in client.head.lower()
        await client.send(masked(TEXT | 0x40, deflated(b"{}")))
        assert await client.closed() == 1002


@pytest.mark.parametrize("path", ["/ws", ECHO])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (masked(BINARY | 0x40, deflated(bytes(100_000_000))[:60_000]), 1009),
        (masked(0x42, b"") + masked(CONTINUATION, deflated(bytes(100_000_000))[:60_000]), 1009),
        (masked(TEXT | 0x40, b"\xff" * 10), 1007),
        (masked(TEXT | 0x40, deflated(b"\xff" * 10)), 1007),
        (masked(0xC9, b"ping"), 1002),
        (masked(TEXT | 0x60, deflated(b"{}")), 1002),
        (masked(TEXT | 0x40, deflated(b"{}"), mask=False), 1002),
        (masked(0x41, b"") + masked(TEXT, b"{}"), 1002),
    ],
    ids=range(8),
)
async def test_what_is_no_compressed_message_is_refused(path: str, said: bytes, code: int, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, gateway=ON) as server,
        raw_connected(server, path=path, headers=OFFER) as client,
    ):
        assert b"permessage-deflate" in client.head
        await client.send(said)
        assert await client.closed() == code


async def test_frames_sent_along_with_the_head_are_inflated(tmp_path: Path) -> None:
    async with running_server(tmp_path, gateway=ON) as server:
        stream = await trio.open_tcp_stream(*server.addresses.tcp[0])
        async with stream:
            head = (
                f"GET {ECHO} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{OFFER}\r\n"
            )
            await stream.send_all(
                head.encode() + masked(TEXT | 0x40, deflated(b"early")) + masked(0x88, b"\x03\xe8")
            )
            received = b""
            with trio.fail_after(DEADLINE_S):
                async for data in stream:
                    received += data
            assert received.endswith(b"\x81\x05early\x88\x02\x03\xe8")


async def test_what_a_compressed_connection_has_not_got_is_replayed(tmp_path: Path) -> None:
    """The marks of frames do not depend on how they were written."""
    async with running_server(tmp_path, gateway=ON) as server, wsproto_connected(server, of("alice")) as alice:
        await alice.send(TextMessage(packet(Op.CHANNEL_CREATE, channel_id="room")))
        await alice.send(TextMessage(packet(Op.CHANNEL_JOIN, channel_id="room")))
        while (await alice.packet(Op.ACK))["op"] != Op.CHANNEL_JOIN:
            pass
        async with wsproto_connected(server, of("bob")) as bob:
            session_id = (await bob.packet(Op.READY))["session_id"]
            await bob.send(TextMessage(packet(Op.CHANNEL_JOIN, channel_id="room")))
            last_seq = (await bob.packet(Op.ACK))["data"]["last_seq"]
            await alice.send(TextMessage(packet(Op.MESSAGE_CREATE, channel_id="room", content="0" + CONTENT)))
            assert (await bob.packet(Op.MESSAGE_EVENT))["seq"] == last_seq + 1
        for number in range(1, 10):
            content = f"{number}" + CONTENT
            await alice.send(TextMessage(packet(Op.MESSAGE_CREATE, channel_id="room", content=content)))
        while (await alice.packet(Op.MESSAGE_EVENT))["content"] != "9" + CONTENT:
            pass
        async with wsproto_connected(server, of("bob") + f"&session_id={session_id}") as bob:
            channels = {"room": last_seq + 1}
            resume = packet(Op.RESUME, session_id=session_id, token=SECRET, channels=channels)
            await bob.send(TextMessage(resume))
            for number in range(1, 10):
                event = await bob.packet(Op.MESSAGE_EVENT)
                assert (event["seq"], event["content"]) == (last_seq + 1 + number, f"{number}" + CONTENT)
            assert (await bob.packet(Op.RESUMED))["channels"]["room"]["replayed"] == 9
