"""What clients may send after the handshake, at random, and what a plain wsproto server makes of it."""

from __future__ import annotations

import struct

import attrs
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from tests.support.raw import masked

FIN = 0x80


@attrs.define
class Outcome:
    """The messages of a stream, in order, and how it ended."""

    messages: list[str | bytes] = attrs.field(factory=list)
    code: int | None = None
    """Of the close frame, or of what wsproto found wrong; None: it goes on."""


class PlainServer:
    """wsproto, given bytes, and what came of them."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._connection = Connection(ConnectionType.SERVER)
        self._parts: list[str | bytes] = []

    def receive(self, data: bytes) -> None:
        """Take bytes; after the end they count for nothing."""
        if self.outcome.code is not None:
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, CloseConnection):
                    self.outcome.code = event.code
                    return
                if isinstance(event, TextMessage | BytesMessage):
                    self._add(event)
        except RemoteProtocolError as exc:
            hint = exc.event_hint
            self.outcome.code = hint.code if isinstance(hint, CloseConnection) else 0

    def _add(self, event: TextMessage | BytesMessage) -> None:
        self._parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
        if event.message_finished:
            empty: str | bytes = "" if isinstance(event, TextMessage) else b""
            self.outcome.messages.append(empty.join(self._parts))  # type: ignore[arg-type]
            self._parts = []


def _non_minimal(payload: bytes) -> bytes:
    return struct.pack("!BBH", FIN | 2, 0x80 | 126, len(payload)) + b"\0\0\0\0" + payload


SIZES = st.sampled_from([0, 1, 3, 125, 126, 127, 128, 200, 1000])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | SIZES.map(
    lambda size: "é" * (size // 2) + "x" * (size % 2)
)
PAYLOADS = st.binary(max_size=20) | SIZES.map(bytes)
DATA = TEXTS.map(lambda text: masked(FIN | 1, text.encode())) | PAYLOADS.map(lambda data: masked(FIN | 2, data))
CONTROL = st.builds(masked, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125))


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Draw a message in fragments, cut anywhere, with control frames between them."""
    is_text = draw(st.booleans())
    data = draw(TEXTS).encode() if is_text else draw(PAYLOADS)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=3)))
    parts = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    stream = masked(1 if is_text else 2, parts[0])
    for part in parts[1:-1]:
        stream += draw(st.just(b"") | CONTROL) + masked(0, part)
    return stream + draw(st.just(b"") | CONTROL) + masked(FIN, parts[-1])


CLOSES = st.one_of(
    st.just(b""),
    st.sampled_from([1000, 1001, 3000, 4999, 1005, 999]).map(lambda code: struct.pack("!H", code)),
    st.just(b"\x03"),
    st.just(b"\x03\xe8\xff"),
).map(lambda payload: masked(0x88, payload))
MALFORMED = st.one_of(
    st.builds(masked, st.integers(0, 255), st.binary(max_size=10), mask=st.booleans()),
    st.binary(min_size=1, max_size=16),
    st.sampled_from([b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf5"]).map(lambda data: masked(FIN | 1, data)),
    st.sampled_from([b"\xff", b"\xf0\x9f"]).map(lambda data: masked(1, data)),
    PAYLOADS.map(_non_minimal),
    st.just(masked(0x89, bytes(126))),
)
PIECES = st.one_of(DATA, DATA, DATA, CONTROL, fragmented(), CLOSES, MALFORMED)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Draw a stream of frames, good and bad, cut into chunks anywhere."""
    stream = b"".join(draw(st.lists(PIECES, max_size=8)))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    return [chunk for chunk in chunks if chunk]
