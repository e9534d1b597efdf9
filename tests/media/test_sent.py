from __future__ import annotations

from livechat.media.sent import SENT_PACKETS, SentSlots, SentTurns, find_sent, remember
from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations, Sealed

ANN, BOB = 1, 2
"""Peer ids."""
ADDRESSES: list[Address] = [("192.0.2.1", 7)] * 2
"""Of both: they share it."""


def bundle(letter: bytes, size: int = 4) -> tuple[bytes, Destinations]:
    return letter * size + letter.lower() * size, Destinations(ADDRESSES, [ANN, BOB])


def test_a_packet_is_found_by_index_and_listener() -> None:
    slots: SentSlots = {}
    turn: Sealed = [(b"of another", ADDRESSES[0]), bundle(b"A"), (b"AloneAgain", ADDRESSES[0])]
    remember(slots, 1000, turn[:2], 1)
    assert find_sent(slots, 1000, ANN) == b"AAAA"
    assert find_sent(slots, 1000, BOB) == b"aaaa"
    assert find_sent(slots, 1000, 3) is None
    assert find_sent(slots, 1001, ANN) is None
    # The same slot, 128 packets earlier or later.
    assert find_sent(slots, 1000 + SENT_PACKETS, ANN) is None
    assert find_sent(slots, 1000 - SENT_PACKETS, ANN) is None


def test_what_follows_in_the_turn_is_not_taken_for_it() -> None:
    slots: SentSlots = {}
    turn: Sealed = [(bytes(4), Destinations(ADDRESSES[:1], [ANN]))]
    remember(slots, 5, turn, 0)
    turn.append(bundle(b"B"))
    assert find_sent(slots, 5, ANN) == bytes(4)
    assert find_sent(slots, 5, BOB) is None


def test_a_publisher_keeps_so_many_packets_and_no_more() -> None:
    slots: SentSlots = {}
    for index in range(3 * SENT_PACKETS):
        remember(slots, index, [bundle(b"%c" % (65 + index % 26))], 0)
    assert len(slots) == SENT_PACKETS
    assert find_sent(slots, 3 * SENT_PACKETS - 1, ANN) is not None
    assert find_sent(slots, 2 * SENT_PACKETS - 1, ANN) is None


def test_past_the_budget_the_oldest_turns_are_emptied() -> None:
    sent = SentTurns(20_000)
    slots: SentSlots = {}
    for index in range(100):
        turn: Sealed = [bundle(b"A", 1000)]
        remember(slots, index, turn, 0)
        sent.end_turn(turn)
        assert sent.bytes <= 20_000
    found = [index for index in range(100) if find_sent(slots, index, ANN)]
    assert found == list(range(100 - len(found), 100))
    assert 5 <= len(found) <= 10


def test_a_turn_beyond_the_budget_is_not_kept_and_no_other_suffers_for_long() -> None:
    sent = SentTurns(5_000)
    slots: SentSlots = {}
    for index, size in enumerate((10, 10_000, 10)):
        turn: Sealed = [bundle(b"A", size)]
        remember(slots, index, turn, 0)
        sent.end_turn(turn)
    assert [find_sent(slots, index, ANN) is not None for index in range(3)] == [False, False, True]


def test_without_a_budget_nothing_is_kept() -> None:
    sent = SentTurns(0)
    assert not sent.keeps
    turn: Sealed = [bundle(b"A")]
    sent.end_turn(turn)
    assert sent.bytes == 0
    assert turn == [turn[0]]


def test_turns_that_made_nothing_take_no_room() -> None:
    sent = SentTurns(1000)
    for _ in range(10):
        sent.end_turn([])
    assert sent.bytes == 0
