from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livechat.gateway.demux import Demux, Message, Ping, Pong
from livechat.protocol.frames import unmask
from tests.support.frame_streams import Outcome, PlainServer, streams
from tests.support.raw import masked


def taken(demux: Demux, *chunks: bytes, frames_max: int = 64) -> tuple[list[Message], bytes]:
    """Feed chunks; return all messages and all that is passed on."""
    messages: list[Message] = []
    passed_on = b""
    for chunk in chunks:
        demux.feed(chunk)
        while not demux.is_starved:
            some, data = demux.take(frames_max)
            messages += some
            passed_on += data
    return messages, passed_on


def demuxed(chunks: list[bytes], frames_max: int) -> Outcome:
    """Return what comes of a stream where only the rest goes to wsproto."""
    demux, plain = Demux(), PlainServer()
    messages = plain.outcome.messages
    for chunk in chunks:
        demux.feed(chunk)
        while not demux.is_starved and plain.outcome.code is None:
            passed, had = demux.passed, len(messages)
            some, data = demux.take(frames_max)
            said = [message for message in some if type(message) not in (Ping, Pong)]
            messages += said
            had += len(said)
            plain.receive(data)
            if demux.passed > passed:
                assert plain.outcome.code is not None or len(messages) == had + 1
            elif not demux.is_plain:
                assert len(messages) == had
    return plain.outcome


@settings(deadline=None, max_examples=500)
@given(streams(), st.integers(1, 4))
@example([masked(0x81, b"a") + masked(0x01, b"b"), masked(0x81, b"c")], 2)
@example([masked(0x88, b""), masked(0x81, b"late")], 2)
def test_messages_their_order_and_the_end_are_those_of_the_plain_way(chunks: list[bytes], frames_max: int) -> None:
    plain = PlainServer()
    for chunk in chunks:
        plain.receive(chunk)
    assert demuxed(chunks, frames_max) == plain.outcome


@pytest.mark.parametrize("size", [0, 1, 4, 125, 126, 127, 65_535])
def test_whole_messages_are_unmasked(size: int) -> None:
    text, data = "x" * size, bytes(range(256)) * 256
    stream = masked(0x81, text.encode()) + masked(0x82, data[:size])
    demux = Demux()
    assert taken(demux, stream) == ([text, data[:size]], b"")
    assert (demux.passed, demux.scanner.frames, demux.is_plain) == (0, 0, False)


def test_a_message_may_come_byte_by_byte() -> None:
    stream = masked(0x81, "é".encode()) + masked(0x82, bytes(200))
    assert taken(Demux(), *[stream[i : i + 1] for i in range(len(stream))]) == (["é", bytes(200)], b"")


@pytest.mark.parametrize(
    "frame",
    [masked(0x81, b"x" * 1000), masked(0x01, b""), masked(0x82, b"x" * 70_000)],
    ids=["text", "a fragment", "a large message"],
)
def test_nothing_is_kept_of_what_was_taken(frame: bytes) -> None:
    demux = Demux()
    taken(demux, frame[:500], frame[500:])
    assert demux._data == b""


def test_only_so_many_are_taken_at_once() -> None:
    demux = Demux()
    demux.feed(masked(0x81, b"x") * 5)
    assert [len(demux.take(2)[0]) for _ in range(3)] == [2, 2, 1]
    assert demux.is_starved


@pytest.mark.parametrize("size", [0, 1, 125])
@pytest.mark.parametrize(("first", "kind"), [(0x89, Ping), (0x8A, Pong)])
def test_pings_and_pongs_take_their_place_among_the_messages(first: int, kind: type, size: int) -> None:
    payload = bytes(range(size))
    stream = masked(0x82, b"a") + masked(first, payload) + masked(0x82, b"b")
    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        messages, passed_on = taken(Demux(), *chunks)
        assert (messages, passed_on) == ([b"a", payload, b"b"], b"")
        assert [type(message) for message in messages] == [bytes, kind, bytes]


@pytest.mark.parametrize(
    "frame",
    [
        masked(0x81, b"x" * 65_536),
        masked(0x82, b"x" * 101),
        masked(0x01, b"x") + masked(0x80, b"y"),
        masked(0x01, b"x") + masked(0x89, b"") + masked(0x00, b"") + masked(0x80, b"y"),
    ],
    ids=["large text", "large bytes", "fragments", "fragments around a ping"],
)
def test_a_large_or_fragmented_message_is_passed_on_and_the_next_one_waits(frame: bytes) -> None:
    demux = Demux()
    demux.bytes_max = 100
    demux.feed(frame + masked(0x81, b"next"))
    passed_on = b""
    while not demux.passed:
        messages, data = demux.take(64)
        assert messages == []
        passed_on += data
    assert passed_on == frame
    assert demux.take(64) == (["next"], b"")


@pytest.mark.parametrize(
    "frame",
    [
        masked(0x88, b""),
        masked(0x81, b"x", mask=False),
        masked(0xC1, b"x"),
        masked(0xA1, b"x"),
        masked(0x91, b"x"),
        masked(0x83, b"x"),
        masked(0x8B, b"x"),
        masked(0x09, b"x"),
        masked(0x89, bytes(126)),
        masked(0x80, b"x"),
        masked(0x01, b"x") + masked(0x81, b"y"),
    ],
    ids=[
        *("close", "unmasked", "RSV1", "RSV2", "RSV3", "reserved opcode", "reserved control opcode"),
        *("fragmented ping", "long ping", "continuation of nothing", "text within a text"),
    ],
)
def test_after_a_close_or_what_is_no_frame_of_ours_all_is_passed_on(frame: bytes) -> None:
    demux = Demux()
    first, last = masked(0x81, b"first"), masked(0x81, b"last")
    assert taken(demux, first + frame + last, last) == (["first"], frame + last + last)
    assert demux.is_plain


def test_text_that_is_not_utf8_is_passed_on() -> None:
    demux = Demux()
    frame = masked(0x81, b"\xff")
    demux.feed(masked(0x82, b"\xff") + frame)
    assert demux.take(64) == ([b"\xff"], frame)
    assert demux.passed == 1


def test_only_a_frame_that_was_announced_is_kept_until_it_has_come() -> None:
    demux = Demux()
    frame = masked(0x82, bytes(101))
    assert taken(demux, frame[:-1]) == ([], b"")
    demux.bytes_max = 100
    assert taken(demux, frame[-1:]) == ([], frame)


def test_text_is_passed_on_once_it_can_not_be_utf8_any_more() -> None:
    frame = masked(0x81, b"\xce\xba\xf4\x90" + b"x" * 500)
    demux = Demux()
    demux.feed(frame[:10])
    assert demux.take(64) == ([], b"")
    demux.feed(frame[10:12])
    assert demux.take(64) == ([], frame[:12])


@settings(deadline=None)
@given(st.text("aé€😀", min_size=30, max_size=60), st.integers(1, 3), st.booleans())
def test_what_has_come_of_a_text_is_checked_once(text: str, size: int, is_late: bool) -> None:
    unmasked: list[int] = []

    def count(masked: bytes, key: bytes) -> bytes:
        unmasked.append(len(masked))
        return unmask(masked, key)

    demux = Demux()
    before = [text] if is_late else []
    if is_late:
        # What is known of one text says nothing of the next.
        assert taken(demux, *cut(masked(0x81, text.encode()), size)) == (before, b"")
    frame = masked(0x81, text.encode() + b"\xff" + bytes(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livechat.gateway.demux.unmask", count)
        messages, passed_on = taken(demux, *cut(frame[: -10 - 1], size))
        assert (messages, passed_on) == ([], b"")
        assert sum(unmasked) <= len(text.encode()) + 3 * len(unmasked)
        assert taken(demux, frame[-10 - 1 : -10]) == ([], frame[:-10])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]
