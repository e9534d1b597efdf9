"""The load of the gateway's benchmark: what is said arrives with all, and what does not is not overlooked."""

from __future__ import annotations

import os
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import msgpack
import pytest

from benchmarks.support import npm
from benchmarks.support.chat_client import running_client
from benchmarks.support.chunks import CHUNK_BYTES, Viewer, chunk_frame
from benchmarks.support.dialects import (
    CONTENT_CHARS,
    DIGITS,
    MARK,
    Dialect,
    Livechat,
    Nats,
    Phrase,
    Plain,
    SocketIo,
)
from benchmarks.support.fan_load import Crowd, Unaccounted
from benchmarks.support.gateway_client import dialect_of
from benchmarks.support.gateway_systems import BARE, DURABLE, OWN, SYSTEMS, free_ports, lacking, running
from benchmarks.support.inbound import WINDOW, Askers, request
from benchmarks.support.inflate import Inflater
from benchmarks.support.sockets import Unreachable, open_rooms

HERE = (OWN, DURABLE, "websockets", "trio-websocket", BARE)
EVERYWHERE = set(os.sched_getaffinity(0))
MEMBERS = 4
SAID = re.compile(re.escape(MARK) + rb"\d{%d}" % DIGITS)

Pairs = tuple[list[socket.socket], list[socket.socket]]


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    """Sockets of the members, and the server's ends of them."""
    both = [socket.socketpair() for _ in range(MEMBERS)]
    for member, _ in both:
        member.setblocking(False)
    yield [member for member, _ in both], [end for _, end in both]
    for sock in (sock for pair in both for sock in pair):
        sock.close()


def unmasked(data: bytes) -> bytes:
    """Return what the frames of a `Phrase` say: their masking key is all of one byte."""
    return data.translate(bytes(byte ^ 0x5A for byte in range(256)))


def serve(ends: list[socket.socket], send: Callable[[socket.socket, bytes], None]) -> threading.Thread:
    """Tell everyone what the first one says, until it is closed."""

    def work() -> None:
        while data := ends[0].recv(65_536):
            for said in SAID.findall(unmasked(data)):
                for end in ends:
                    send(end, said + b"." * 20)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def in_pieces(end: socket.socket, data: bytes) -> None:
    for start in range(0, len(data), 3):
        end.send(data[start : start + 3])


def whole(end: socket.socket, data: bytes) -> None:
    end.send(data)


@pytest.mark.parametrize("send", [whole, in_pieces])
@pytest.mark.parametrize("window", [1, 5])
def test_all_that_is_said_is_counted_however_it_is_cut(
    pairs: Pairs, send: Callable[[socket.socket, bytes], None], window: int
) -> None:
    members, ends = pairs
    thread = serve(ends, send)
    try:
        crowd = Crowd(Plain(), [members], os.getpid())
        first, second = crowd.run(window, 0.05), crowd.run(window, 0.05)
    finally:
        members[0].shutdown(socket.SHUT_WR)
        thread.join()
    [room] = crowd.rooms
    assert room.done == room.sent >= window
    assert room.standing[room.sent] == MEMBERS
    assert len(room.sent_ns) == len(room.first_ns) == len(room.last_ns) == room.sent
    assert all(sent <= came <= last for sent, came, last in zip(*times(crowd), strict=True))
    assert 0 <= first["messages"] + second["messages"] <= room.sent


def times(crowd: Crowd) -> tuple[list[int], list[int], list[int]]:
    [room] = crowd.rooms
    return room.sent_ns, room.first_ns, room.last_ns


def doubling(end: socket.socket, data: bytes) -> None:
    end.send(data * 2)


def swapping(end: socket.socket, data: bytes) -> None:
    end.send(data.replace(b"0", b"7", 1))


@pytest.mark.parametrize(
    ("send", "text"), [(doubling, "more messages than were sent"), (swapping, "out of order, lost or doubled")]
)
def test_what_is_wrong_is_not_overlooked(
    pairs: Pairs, send: Callable[[socket.socket, bytes], None], text: str
) -> None:
    members, ends = pairs
    thread = serve(ends, send)
    try:
        with pytest.raises(Unaccounted, match=text):
            Crowd(Plain(), [members], os.getpid()).run(1, 0.05)
    finally:
        members[0].shutdown(socket.SHUT_WR)
        thread.join()


def test_a_lost_connection_ends_the_measurement(pairs: Pairs) -> None:
    members, ends = pairs
    crowd = Crowd(Plain(), [members], os.getpid())
    ends[2].close()
    with pytest.raises(Unaccounted, match="closed a connection"):
        crowd.run(1, 0.05)


@pytest.mark.parametrize("piece", [5, 1000])
def test_replies_are_counted_however_they_are_cut(pairs: Pairs, piece: int) -> None:
    [member, *_], [end, *_] = pairs
    frame_bytes = len(request("HEARTBEAT", 0)[0])

    def work() -> None:
        received = answered = 0
        while data := end.recv(65_536):
            received += len(data)
            reply = b'\x81\x13{"op":2,"d":null}' * (received // frame_bytes - answered)
            answered = received // frame_bytes
            for start in range(0, len(reply), piece):
                end.send(reply[start : start + piece])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        askers = Askers([member], os.getpid())
        for _ in range(2):
            assert askers.run("HEARTBEAT", 0.05)["count"] >= 0
    finally:
        member.shutdown(socket.SHUT_WR)
        thread.join()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'\x81\x0b{"op":201,"d":{}}', r"refused: \{\"op\":201"),
        (b'\x81\x13{"op":2,"d":null}' * (WINDOW + 1), "more replies came than were asked for"),
    ],
)
def test_a_refusal_and_what_was_not_asked_for_are_told(pairs: Pairs, answer: bytes, text: str) -> None:
    [member, *_], [end, *_] = pairs
    end.send(answer)
    with pytest.raises(Unaccounted, match=text):
        Askers([member], os.getpid()).run("HEARTBEAT", 0.05)


@pytest.mark.parametrize("dialect", [Plain(), Livechat("t"), SocketIo(), Nats()])
@pytest.mark.parametrize("index", [0, 7, 9_999_999_999])
def test_a_phrase_is_masked_and_numbered(dialect: Dialect, index: int) -> None:
    made = dialect.phrase(3).number(index)
    assert made[0] in (0x81, 0x82)
    assert made[1] & 0x80
    payload = unmasked(made)
    assert MARK + b"%010d" % index in payload
    assert payload.count(MARK) == 1
    assert len(made) == len(dialect.phrase(3).number(0))


def test_a_phrase_says_it_once() -> None:
    with pytest.raises(ValueError, match="unpack"):
        Phrase(b"nothing to be numbered")


def test_a_member_is_added_before_it_comes() -> None:
    exchanges = Livechat("t").found(0, 250)
    assert [times for _, _, times in exchanges] == [1, 1, 100, 100, 49]


def test_a_chunk_has_its_size_and_its_stamp_at_the_end() -> None:
    made = chunk_frame(12, 345, keyframe=True)
    assert made[0] == 0x82
    key = made[4:8]
    payload = bytes(byte ^ key[place % 4] for place, byte in enumerate(made[8:]))
    packet = msgpack.unpackb(payload)
    assert packet["op"] == 29
    assert len(packet["d"]["data"]) == CHUNK_BYTES
    assert packet["d"]["data"].endswith(MARK + b"0000000012" + b"%020d" % 345 + b"K")


@pytest.mark.parametrize(
    ("got", "missing", "gaps", "bad"),
    [
        ("1K 2. 3. 4K 5.", 0, 0, 0),
        ("1K 4K 5.", 2, 1, 0),
        ("1K 3. 4K 5.", 1, 1, 1),
        ("4K 5.", 3, 1, 0),
        ("1K 2.", 3, 0, 0),
        ("", 5, 0, 0),
    ],
)
def test_gaps_are_counted_and_must_end_with_a_keyframe(got: str, missing: int, gaps: int, bad: int) -> None:
    account = viewer(got).account(range(1, 6))
    assert account == {
        "received": 5 - missing,
        "missing": missing,
        "gaps": gaps,
        "gaps_not_ended_by_keyframe": bad,
    }


@pytest.mark.parametrize("got", ["1K 2. 2.", "1K 3. 2."])
def test_chunks_that_come_twice_or_late_are_errors(got: str) -> None:
    with pytest.raises(Unaccounted, match="chunk 2 came twice or late"):
        viewer(got).account(range(1, 6))


def viewer(got: str) -> Viewer:
    made = Viewer(socket.socket())
    made.sock.close()
    for chunk in got.split():
        made.numbers.append(int(chunk[:-1]))
        made.is_keyframe.append(chunk[-1] == "K")
    return made


@pytest.mark.parametrize("name", HERE)
async def test_a_server_tells_all_members_of_a_room(name: str, tmp_path: Path) -> None:
    async with (
        running(name, tmp_path / "data", EVERYWHERE, tmp_path) as server,
        running_client(name, EVERYWHERE) as client,
    ):
        told = attrs.asdict(server) | {"dialect": server.dialect}
        connected = await client.ask("connect", load="crowd", server=told, rooms=2, members=3)
        assert connected["connected"] == 6
        result = await client.ask("run", window=2, seconds=0.05)
        assert result["last_us"]["min"] >= result["first_us"]["min"] > 0


@pytest.mark.parametrize("name", [OWN, "websockets"])
async def test_a_server_compresses_for_all_members_of_a_room(name: str, tmp_path: Path) -> None:
    async with (
        running(name, tmp_path / "data", EVERYWHERE, tmp_path, deflate=True) as server,
        running_client(name, EVERYWHERE) as client,
    ):
        told = attrs.asdict(server) | {"dialect": server.dialect}
        await client.ask("connect", load="crowd", server=told, rooms=1, members=3, deflate=True)
        result = await client.ask("run", window=2, seconds=0.05)
        assert 0 < result["bytes_each"] < CONTENT_CHARS


async def test_who_does_not_compress_is_an_error(tmp_path: Path) -> None:
    async with running(BARE, tmp_path, EVERYWHERE, tmp_path) as server:
        with pytest.raises(Unreachable, match="does not compress"):
            open_rooms(("127.0.0.1", server.port), Plain(), 1, 2, inflaters={})


@pytest.mark.parametrize("keeps_window", [True, False])
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_what_is_deflated_is_read_however_it_is_cut(keeps_window: bool, cut: int) -> None:
    parameters = b"" if keeps_window else b"; server_no_context_takeover"
    inflater = Inflater(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Extensions: permessage-deflate" + parameters)
    assert inflater.is_agreed
    said, data = [b"hello " * 30, b"hello " * 30, b""], b""
    deflate = zlib.compressobj(wbits=-15)
    for text in said:
        if not keeps_window:
            deflate = zlib.compressobj(wbits=-15)
        payload = (deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
        data += bytes((0xC1, len(payload))) + payload
    data += b"\x81\x05plain"
    heard = b"".join(inflater.feed(data[start : start + cut]) for start in range(0, len(data), cut))
    assert heard == b"".join(said) + b"plain"
    assert not Inflater(b"HTTP/1.1 101 Yes").is_agreed


def test_who_does_not_answer_is_an_error() -> None:
    [port] = free_ports(1)
    with pytest.raises(Unreachable, match="cannot connect"):
        open_rooms(("127.0.0.1", port), Plain(), 1, 2)


@pytest.mark.parametrize(
    ("answer", "text"), [(b"HTTP/1.1 403 No\r\n\r\n", "403 No"), (b"", "closed by the server")]
)
def test_who_refuses_is_an_error(answer: bytes, text: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.send(answer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with pytest.raises(Unreachable, match=text):
            open_rooms(listener.getsockname(), Plain(), 1, 1)
    finally:
        thread.join()
        listener.close()


def test_every_system_has_a_dialect_or_is_lacking() -> None:
    assert isinstance(dialect_of("livechat", "t"), Livechat)
    assert isinstance(dialect_of("socket.io", ""), SocketIo)
    assert isinstance(dialect_of("nats", ""), Nats)
    assert isinstance(dialect_of("plain", ""), Plain)
    without_node = [name for name in SYSTEMS if name not in ("ws", "socket.io")]
    assert set(lacking(without_node, Path("unused"))) <= {"python-socketio", "nats"}


def test_what_node_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lacking(["ws", "livechat"], tmp_path / "packages") == {"ws": "node"}
    program(tmp_path / "node", "")
    assert npm.provide(tmp_path / "packages") == "npm"
    program(tmp_path / "npm", "echo no such registry >&2; exit 1")
    assert npm.provide(tmp_path / "packages") == "ws and socket.io: npm install failed: no such registry"
    for name in npm.PACKAGES:
        (npm.modules(tmp_path / "packages") / name).mkdir(parents=True)
    assert npm.provide(tmp_path / "packages") is None


def program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
