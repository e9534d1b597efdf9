from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode

from livechat.protocol.frames import FrameScanner, serialize_close, serialize_frame
from tests.support.raw import masked

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 70000]


def client_parser() -> FrameProtocol:
    """Return wsproto's parser of what servers send; it refuses what RFC 6455 does."""
    return FrameProtocol(client=True, extensions=[])


def masked_frame(payload: bytes, opcode: int, *, fin: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """Build a client's frame by the letter of RFC 6455, section 5.2, in the shortest form of the length."""
    size = len(payload)
    first = bytes((fin << 7 | opcode,))
    if size < 126:
        head = first + bytes((0x80 | size,))
    elif size < 65536:
        head = first + bytes((0x80 | 126,)) + size.to_bytes(2, "big")
    else:
        head = first + bytes((0x80 | 127,)) + size.to_bytes(8, "big")
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("binary", [False, True])
def test_a_data_frame_is_what_a_client_parses(size: int, binary: bool) -> None:
    payload = b"x" * size
    parser = client_parser()
    parser.receive_bytes(serialize_frame(payload, binary=binary))
    (frame,) = parser.received_frames()
    assert frame.opcode is (Opcode.BINARY if binary else Opcode.TEXT)
    assert (frame.frame_finished, frame.message_finished) == (True, True)
    received: object = frame.payload
    assert (received.encode() if isinstance(received, str) else received) == payload


@pytest.mark.parametrize("size", SIZES)
def test_the_length_is_written_in_its_shortest_form(size: int) -> None:
    assert len(serialize_frame(b"x" * size, binary=True)) - size == (
        2 if size < 126 else 4 if size < 65536 else 10
    )


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "slow consumer"), (4999, "größer als 最大")])
def test_a_close_frame_is_what_a_client_parses(code: int, reason: str) -> None:
    assert _parse_close(serialize_close(code, reason)) == (code, reason)


@settings(deadline=None)
@given(st.text(st.sampled_from("aé最😀"), min_size=0, max_size=140))
@example("a" * 123)
@example("a" * 124)
@example("a" * 122 + "é")
@example("😀" * 40)
def test_a_close_reason_is_cut_between_characters(reason: str) -> None:
    frame = serialize_close(4000, reason)
    assert len(frame) <= 2 + 125
    code, received = _parse_close(frame)
    assert code == 4000
    assert reason.startswith(received)
    if received != reason:
        # Nothing was cut that would have fitted.
        assert len(received.encode()) + len(reason[len(received)].encode()) > 123


def _parse_close(frame: bytes) -> tuple[int, str]:
    parser = client_parser()
    parser.receive_bytes(frame)
    (parsed,) = parser.received_frames()
    assert parsed.opcode is Opcode.CLOSE
    payload: object = parsed.payload
    # A close frame's payload is (code, reason), which wsproto's types do not say.
    assert isinstance(payload, tuple)
    return int(payload[0]), str(payload[1] or "")


CLIENT_FRAMES = st.lists(
    st.builds(
        masked_frame,
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from([124, 125, 126, 127, 128, 1000, 65535, 65536, 65540]).map(bytes),
        ),
        st.sampled_from([0x0, 0x1, 0x2, 0x8, 0x9, 0xA]),
        fin=st.booleans(),
        mask=st.binary(min_size=4, max_size=4),
    ),
    max_size=8,
)
# Masking and scanning large frames takes what time it takes.
unhurried = settings(deadline=None)


@unhurried
@given(CLIENT_FRAMES, st.data())
def test_the_scanner_counts_each_frame_when_its_last_byte_comes(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    ends: list[int] = []
    for frame in frames:
        ends.append((ends[-1] if ends else 0) + len(frame))
    # Cuts are drawn near the frames' borders, where the scanner can be wrong, as well as anywhere.
    borders = [max(0, end + shift) for end in [0, *ends] for shift in range(-3, 15)]
    near = st.sampled_from(borders).map(lambda cut: min(cut, len(stream)))
    cuts = sorted(data.draw(st.lists(st.one_of(near, st.integers(0, len(stream))), max_size=30)))
    scanner = FrameScanner()
    fed = counted = 0
    for cut in [*cuts, len(stream)]:
        counted += scanner.feed(stream[fed:cut])
        fed = max(fed, cut)
        assert counted == sum(end <= fed for end in ends)
    assert counted == len(frames)


@unhurried
@given(CLIENT_FRAMES)
def test_the_scanner_counts_frames_that_come_byte_by_byte(frames: list[bytes]) -> None:
    short = [frame for frame in frames if len(frame) < 200]
    scanner = FrameScanner()
    for frame in short:
        assert [scanner.feed(bytes((byte,))) for byte in frame] == [0] * (len(frame) - 1) + [1]


def test_the_scanner_does_not_take_a_drip_of_payload_for_a_sign_of_life() -> None:
    scanner = FrameScanner()
    assert scanner.feed(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask") == 0
    assert [scanner.feed(b"x") for _ in range(1000)] == [0] * 1000


def test_the_scanner_agrees_with_wsprotos_server_parser() -> None:
    frames = [masked_frame(b"x" * size, 0x2) for size in SIZES]
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(b"".join(frames))
    parsed = []
    while (frame := decoder.process_buffer()) is not None:
        parsed.append(frame)
    assert FrameScanner().feed(b"".join(frames)) == sum(frame.frame_finished for frame in parsed) == len(SIZES)


@unhurried
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_the_scanner_survives_any_bytes(pieces: list[bytes]) -> None:
    scanner = FrameScanner()
    for piece in pieces:
        assert 0 <= scanner.feed(piece) <= len(piece)


@pytest.mark.parametrize(
    ("stream", "payload"),
    [
        (masked(0x88, b""), b""),
        (masked(0x88, b"\x03\xf6why"), b"\x03\xf6why"),
        (masked(0x81, b"hello") + masked(0x88, b"\x03\xe8") + masked(0x88, b"\x03\xe9"), b"\x03\xe8"),
        (masked(0x88, b"\x03\xe8" + b"x" * 123), b"\x03\xe8" + b"x" * 123),
        (masked(0x88, b"\x03\xf6why")[:-1], None),
        (masked(0x88, bytes(126)), None),
        (masked(0x88, b"\x03\xe8", mask=False), None),
        (masked(0x89, b"\x03\xe8"), None),
    ],
    ids=range(8),
)
def test_the_first_close_frame_is_read_in_any_pieces(stream: bytes, payload: bytes | None) -> None:
    for step in (1, 3, len(stream)):
        scanner = FrameScanner()
        for start in range(0, len(stream), step):
            scanner.feed(stream[start : start + step])
        assert scanner.close_payload == payload
