from __future__ import annotations

import math

import pytest

from livechat.client.inbox import Inbox
from livechat.client.repair import CHANNELS_ASKED_MAX, EVENTS_ASKED_MAX, Repairs
from livechat.client.settings import Backoff
from livechat.error import ChannelNotFound, InternalError, NotInChannel, Overloaded, RateLimited, UnknownOpcode
from livechat.protocol.requests import History, Sync, SyncRange
from livechat.protocol.types import ChannelId
from tests.support.client_events import DEN, HALL, brief, message, page, synced


class Repairing:
    """Repairs of an inbox in which `den` was handed over up to 5."""

    def __init__(self) -> None:
        self.inbox = Inbox(held_max=1000)
        self.inbox.open(DEN, 5)
        self.repairs = Repairs(self.inbox, Backoff(tries_max=None), uniform=lambda: 1.0)
        self.now = 0.0

    def hear(self, *seqs: int, channel_id: ChannelId = DEN) -> list[int | tuple[int, int]]:
        return [each for seq in seqs for each in brief(self.inbox.offer(message(seq, channel_id), seq))]

    def next(self) -> Sync | History | None:
        return self.repairs.next_request(self.now)


@pytest.fixture
def repairing() -> Repairing:
    return Repairing()


def test_without_a_hole_nothing_is_asked(repairing: Repairing) -> None:
    repairing.hear(6, 7)
    assert repairing.next() is None
    assert repairing.repairs.deadline == math.inf


def test_a_hole_is_asked_for_exactly_and_once(repairing: Repairing) -> None:
    repairing.hear(9)
    assert repairing.next() == Sync({DEN: SyncRange(5, 9)})
    assert repairing.next() is None
    assert repairing.hear(6, 7, 8) == [6, 7, 8, 9]
    repairing.repairs.synced(synced(9))
    assert repairing.next() is None


def test_all_channels_are_asked_for_at_once(repairing: Repairing) -> None:
    repairing.inbox.open(HALL, 0)
    repairing.hear(9)
    repairing.inbox.expect(HALL, 3)
    assert repairing.next() == Sync({DEN: SyncRange(5, 9), HALL: SyncRange(0, 4)})


def test_a_long_absence_comes_in_portions(repairing: Repairing) -> None:
    end = 5 + 2 * EVENTS_ASKED_MAX + 10
    repairing.inbox.expect(DEN, end)
    asked = []
    while (request := repairing.next()) is not None:
        assert isinstance(request, Sync)
        bounds = request.channels[DEN]
        assert bounds.before is not None
        assert bounds.before - bounds.after - 1 <= EVENTS_ASKED_MAX
        asked.append(bounds)
        repairing.hear(*range(bounds.after + 1, bounds.before))
        repairing.repairs.synced(synced(end))
    assert (len(asked), repairing.inbox.last(DEN)) == (3, end)


def test_one_request_names_so_many_channels_at_most(repairing: Repairing) -> None:
    for number in range(CHANNELS_ASKED_MAX + 20):
        channel_id = ChannelId(f"c{number}")
        repairing.inbox.open(channel_id, 0)
        repairing.inbox.expect(channel_id, 1)
    request = repairing.next()
    assert isinstance(request, Sync)
    assert len(request.channels) == CHANNELS_ASKED_MAX


def test_what_comes_during_a_repair_is_asked_for_by_the_next(repairing: Repairing) -> None:
    repairing.hear(7)
    repairing.next()
    repairing.hear(10)
    repairing.hear(6)
    repairing.repairs.synced(synced(7))
    assert repairing.next() == Sync({DEN: SyncRange(7, 10)})


def test_what_sync_leaves_out_is_looked_for_in_history(repairing: Repairing) -> None:
    repairing.hear(12)
    repairing.next()
    repairing.hear(6)
    repairing.repairs.synced(synced(12, recovered=False))
    assert repairing.next() == History(DEN, after_seq=6, limit=100)
    assert brief(repairing.repairs.paged(page(7, 9, 10, last_seq=12))) == [7, (7, 9), 9, 10, (10, 12), 12]
    assert repairing.next() is None


def test_a_part_that_came_is_gone_on_with(repairing: Repairing) -> None:
    repairing.hear(12)
    repairing.next()
    repairing.hear(6, 7)
    repairing.repairs.synced(synced(12, recovered=True))
    assert repairing.next() == Sync({DEN: SyncRange(7, 12)})


def test_a_sync_that_brings_nothing_is_not_asked_again(repairing: Repairing) -> None:
    repairing.hear(12)
    repairing.next()
    repairing.repairs.synced(synced(12, recovered=True))
    assert isinstance(repairing.next(), History)


def test_history_comes_page_by_page(repairing: Repairing) -> None:
    repairing.inbox.expect(DEN, 9)
    repairing.next()
    repairing.repairs.refused(UnknownOpcode("22"), 0.0)
    assert repairing.next() == History(DEN, after_seq=5, limit=100)
    assert brief(repairing.repairs.paged(page(6, 7, last_seq=9, has_after=True))) == [6, 7]
    assert repairing.next() == History(DEN, after_seq=7, limit=100)
    assert brief(repairing.repairs.paged(page(8, 9, last_seq=9))) == [8, 9]
    assert repairing.next() is None


def test_what_history_does_not_have_is_a_gap(repairing: Repairing) -> None:
    repairing.inbox.expect(DEN, 9)
    repairing.next()
    repairing.repairs.refused(UnknownOpcode("22"), 0.0)
    repairing.next()
    assert brief(repairing.repairs.paged(page(last_seq=9))) == [(5, 10)]
    assert repairing.hear(10) == [10]


@pytest.mark.parametrize("has_after", [False, True])
def test_a_history_that_knows_less_than_we_were_told_ends_all_the_same(
    repairing: Repairing, has_after: bool
) -> None:
    repairing.inbox.expect(DEN, 9)
    repairing.next()
    repairing.repairs.refused(UnknownOpcode("22"), 0.0)
    repairing.next()
    assert brief(repairing.repairs.paged(page(last_seq=5, has_after=has_after))) == [(5, 10)]
    assert repairing.next() is None


def test_where_nothing_can_be_asked_it_is_a_gap(repairing: Repairing) -> None:
    repairing.hear(9)
    repairing.next()
    assert repairing.repairs.refused(NotInChannel("gone"), 0.0) == []
    assert isinstance(repairing.next(), History)
    assert brief(repairing.repairs.refused(ChannelNotFound("gone"), 0.0)) == [(5, 9), 9]
    assert repairing.next() is None


def test_a_channel_that_spoils_a_sync_does_not_take_the_others_along(repairing: Repairing) -> None:
    repairing.inbox.open(HALL, 0)
    repairing.hear(7)
    repairing.hear(2, channel_id=HALL)
    repairing.next()
    repairing.repairs.refused(NotInChannel("hall"), 0.0)
    assert repairing.next() == History(DEN, after_seq=5, limit=100)
    assert brief(repairing.repairs.paged(page(6, 7, last_seq=7))) == [6, 7]
    assert repairing.next() == History(HALL, after_seq=0, limit=100)
    assert brief(repairing.repairs.refused(NotInChannel("hall"), 0.0)) == [(0, 2), 2]


def test_a_refusal_for_now_is_waited_out(repairing: Repairing) -> None:
    repairing.hear(9)
    waits = []
    for refusal in (Overloaded("later"), Overloaded("later"), RateLimited("slow", retry_after_ms=9000)):
        assert repairing.next() == Sync({DEN: SyncRange(5, 9)})
        assert repairing.repairs.refused(refusal, repairing.now) == []
        assert repairing.next() is None
        waits.append(repairing.repairs.deadline - repairing.now)
        repairing.now = repairing.repairs.deadline
    assert waits == [1.0, 1.5, 9.0]


def test_an_internal_error_is_not_waited_out_for_ever(repairing: Repairing) -> None:
    repairing.hear(9)
    asked = []
    handed: list[int | tuple[int, int]] = []
    while (request := repairing.next()) is not None:
        asked.append(type(request))
        handed += brief(repairing.repairs.refused(InternalError("oops"), repairing.now))
        repairing.now += 100.0
    assert asked == [Sync] * 4 + [History] * 4
    assert handed == [(5, 9), 9]


def test_on_another_connection_it_is_asked_again(repairing: Repairing) -> None:
    repairing.hear(9)
    repairing.next()
    repairing.repairs.refused(UnknownOpcode("22"), 0.0)
    assert isinstance(repairing.next(), History)
    repairing.repairs.lost()
    assert repairing.next() == Sync({DEN: SyncRange(5, 9)}), (
        "it may be another node, which has what that one lacked"
    )


def test_an_answer_for_a_channel_that_was_left_meanwhile_does_nothing(repairing: Repairing) -> None:
    repairing.hear(9)
    repairing.next()
    repairing.inbox.close(DEN)
    repairing.repairs.synced(synced(9))
    assert repairing.next() is None
    repairing.inbox.open(DEN, 5)
    repairing.hear(9)
    repairing.next()
    repairing.repairs.refused(UnknownOpcode("22"), 0.0)
    repairing.next()
    repairing.inbox.close(DEN)
    assert repairing.repairs.paged(page(6, 7, last_seq=9)) == []
