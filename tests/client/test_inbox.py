from __future__ import annotations

from livechat.client.inbox import Inbox
from tests.support.client_events import DEN, HALL, brief, message


def new(last_seq: int = 5) -> Inbox:
    inbox = Inbox(held_max=100)
    inbox.open(DEN, last_seq)
    return inbox


def offer(inbox: Inbox, *seqs: int) -> list[int | tuple[int, int]]:
    return [each for seq in seqs for each in brief(inbox.offer(message(seq), seq))]


def test_it_begins_after_what_the_server_has_stated() -> None:
    inbox = new()
    assert offer(inbox, 4, 5, 6, 7) == [6, 7]
    assert inbox.positions() == {DEN: 7}


def test_a_hole_is_noted_until_it_is_filled() -> None:
    inbox = new()
    assert offer(inbox, 8) == []
    assert (inbox.broken(), inbox.hole(DEN)) == ([DEN], (5, 8))
    assert offer(inbox, 7, 6) == [6, 7, 8]
    assert inbox.broken() == []


def test_what_the_server_has_told_of_is_missing_until_it_comes() -> None:
    inbox = new()
    inbox.expect(DEN, 7)
    assert inbox.is_broken(DEN)
    assert offer(inbox, 6, 7) == [6, 7]
    assert not inbox.is_broken(DEN)


def test_what_is_given_up_is_told_between_what_is_there() -> None:
    inbox = new()
    offer(inbox, 7, 10)
    assert brief(inbox.give_up(DEN, 12)) == [(5, 7), 7, (7, 10), 10, (10, 12)]
    assert inbox.positions() == {DEN: 11}
    assert inbox.broken() == []


def test_a_part_can_be_given_up() -> None:
    inbox = new()
    offer(inbox, 10)
    assert brief(inbox.give_up(DEN, 8)) == [(5, 8)]
    assert inbox.hole(DEN) == (7, 10)


def test_giving_up_nothing_tells_nothing() -> None:
    inbox = new()
    assert inbox.give_up(DEN, 6) == []
    assert inbox.positions() == {DEN: 5}


def test_closing_hands_over_what_was_held() -> None:
    inbox = new()
    offer(inbox, 8, 9)
    assert brief(inbox.close(DEN)) == [(5, 8), 8, 9]
    assert DEN not in inbox
    assert inbox.close(DEN) == []
    assert inbox.broken() == []


def test_opening_again_begins_anew() -> None:
    inbox = new()
    offer(inbox, 8)
    inbox.open(DEN, 20)
    assert inbox.broken() == []
    assert offer(inbox, 8, 21) == [21]


def test_who_waited_longest_comes_first() -> None:
    inbox = new()
    inbox.open(HALL, 0)
    inbox.expect(DEN, 9)
    inbox.expect(HALL, 9)
    inbox.expect(DEN, 10)
    assert inbox.broken() == [DEN, HALL]
    inbox.postpone(DEN)
    assert inbox.broken() == [HALL, DEN]
