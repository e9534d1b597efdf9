"""Packets that are almost what they were."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, packet: bytes) -> bytes:
    """Change a packet a little: bytes, words that mean lengths, what is in the middle, where it ends."""
    data = bytearray(packet)
    for _ in range(draw(st.integers(1, 4))):
        change = draw(st.sampled_from(("byte", "bit", "cut", "insert", "remove", "double")))
        at = draw(st.integers(0, max(0, len(data) - 1)))
        if change == "byte" and data:
            data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        elif change == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[at:]
        elif change == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif change == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif change == "double":
            data += data[:at]
    return bytes(data)
