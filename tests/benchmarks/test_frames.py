"""Frames are found where the server's serializer puts them, and only once they are whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.support.frames import payload_at
from livechat.protocol.frames import serialize_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("position", [0, 3])
def test_a_payload_is_found_once_the_frame_is_whole(size: int, position: int) -> None:
    payload = b"x" * size
    data = b"..."[:position] + serialize_frame(payload, binary=True)
    assert payload_at(data + b"more", position) == payload_at(data, position) == (len(data) - size, len(data))
    for end in {position, position + 1, len(data) - size - 1, len(data) - 1}:
        assert payload_at(data[:end], position) is None


@given(st.lists(st.binary(max_size=300)))
def test_frames_one_after_another_are_all_found(payloads: list[bytes]) -> None:
    data = b"".join(serialize_frame(payload, binary=True) for payload in payloads)
    found, position = [], 0
    while (place := payload_at(data, position)) is not None:
        start, position = place
        found.append(data[start:position])
    assert found == payloads
    assert position == len(data)
