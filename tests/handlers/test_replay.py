from __future__ import annotations

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from livechat.error import BackendUnavailable
from livechat.handlers.replay import PAGE_MESSAGES, RANGES_AT_ONCE, Stretch, replay
from livechat.protocol.types import ChannelId
from tests.support.replay import FakeCaller, FakeMessages, node_with, stretch


def seqs(channel_id: str, first: int, last: int) -> list[tuple[str, int]]:
    return [(channel_id, seq) for seq in range(first, last + 1)]


def state(each: Stretch) -> tuple[int, int, bool]:
    """(where it stands, how much was replayed, whether all of it was there)."""
    return each.span.after, each.replayed, each.is_intact


async def test_what_lies_strictly_between_is_sent_in_order_page_by_page() -> None:
    messages, caller = FakeMessages(a=range(1, 1000)), FakeCaller()
    wanted = stretch("a", 100, 100 + 2 * PAGE_MESSAGES + 51)
    await replay(node_with(messages), caller, [wanted])
    assert caller.told == seqs("a", 101, 100 + 2 * PAGE_MESSAGES + 50)
    assert state(wanted) == (100 + 2 * PAGE_MESSAGES + 50, 2 * PAGE_MESSAGES + 50, True)
    assert len(messages.queries) == 3


@pytest.mark.parametrize(("after", "before"), [(5, 6), (5, 5), (9, 3)])
async def test_for_nothing_nothing_is_asked(after: int, before: int) -> None:
    messages, caller = FakeMessages(a=range(1, 10)), FakeCaller()
    wanted = stretch("a", after, before)
    await replay(node_with(messages), caller, [wanted])
    assert (messages.queries, caller.sent, state(wanted)) == ([], [], (after, 0, True))


async def test_many_channels_share_a_page() -> None:
    names = [f"c{number:04}" for number in range(2 * RANGES_AT_ONCE + 10)]
    messages, caller = FakeMessages(**{name: [1] for name in names}), FakeCaller()
    wanted = [stretch(name, 0, 2) for name in names]
    await replay(node_with(messages), caller, wanted)
    assert caller.told == [(name, 1) for name in names]
    assert len(messages.queries) == 3
    assert all(state(each) == (1, 1, True) for each in wanted)


async def test_parts_of_one_channel_are_sent_one_after_the_other() -> None:
    messages, caller = FakeMessages(a=range(1, 20), b=range(1, 5)), FakeCaller()
    wanted = [stretch("a", 0, 4), stretch("a", 8, 12), stretch("b", 0, 3), stretch("a", 15, 17)]
    await replay(node_with(messages), caller, wanted)
    assert caller.told == [*seqs("a", 1, 3), *seqs("a", 9, 11), *seqs("b", 1, 2), ("a", 16)]
    assert [state(each) for each in wanted] == [(3, 3, True), (11, 3, True), (2, 2, True), (16, 1, True)]


async def test_a_page_cut_short_by_its_size_goes_on_where_it_ended() -> None:
    messages, caller = FakeMessages(a=range(1, 8), b=range(1, 8)), FakeCaller()
    messages.rows_max = 3
    wanted = [stretch("a", 0, 8), stretch("b", 0, 8)]
    await replay(node_with(messages), caller, wanted)
    assert caller.told == [*seqs("a", 1, 7), *seqs("b", 1, 7)]
    assert [state(each) for each in wanted] == [(7, 7, True)] * 2


# --- what is not there -------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [[2, 3, 4], [1, 2, 4], [1, 2, 3], [2, 4], [], [3]])
async def test_what_is_not_in_the_store_is_said_and_the_rest_is_sent(there: list[int]) -> None:
    messages, caller = FakeMessages(a=there, b=[1, 2]), FakeCaller()
    wanted, other = stretch("a", 0, 5), stretch("b", 0, 3)
    await replay(node_with(messages), caller, [wanted, other])
    assert caller.told == [*(("a", seq) for seq in there), *seqs("b", 1, 2)]
    assert state(wanted) == (4, len(there), False)
    assert state(other) == (2, 2, True)


async def test_channels_that_are_gone_are_given_up_wherever_they_stand() -> None:
    messages, caller = FakeMessages(b=[1], d=[1]), FakeCaller()
    wanted = [stretch(name, 0, 2) for name in "abcde"]
    await replay(node_with(messages), caller, wanted)
    assert caller.told == [("b", 1), ("d", 1)]
    assert [each.is_intact for each in wanted] == [False, True, False, True, False]
    assert all(not each.missing for each in wanted)


STRETCHES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(1, 14)), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=150)
@example(there={"a": {1, 2}}, asked=[("a", 0, 2), ("a", 1, 3)], rows_max=1)
@given(
    there=st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(1, 12)), max_size=3),
    asked=STRETCHES,
    rows_max=st.sampled_from([1, 2, 5, 1000]),
)
async def test_exactly_what_is_there_is_sent_and_every_hole_is_known(
    there: dict[str, set[int]], asked: list[tuple[str, int, int]], rows_max: int
) -> None:
    messages, caller = FakeMessages(**there), FakeCaller()
    messages.rows_max = rows_max
    wanted = [stretch(*each) for each in asked]
    await replay(node_with(messages), caller, wanted)
    expected = [
        [(channel_id, seq) for seq in sorted(there.get(channel_id, ())) if after < seq < before]
        for channel_id, after, before in asked
    ]
    assert caller.told == [event for events in expected for event in events]
    for (_, after, before), each, events in zip(asked, wanted, expected, strict=True):
        assert each.replayed == len(events)
        assert each.is_intact == (len(events) == max(0, before - 1 - after))
        assert each.missing == 0


# --- who may not hear any more -----------------------------------------------------------------------------


async def test_a_channel_that_may_not_be_heard_is_not_even_asked_for() -> None:
    messages, caller = FakeMessages(a=range(1, 5), b=range(1, 5)), FakeCaller()
    wanted = [stretch("a", 0, 5), stretch("b", 0, 5)]
    await replay(node_with(messages), caller, wanted, may_hear=lambda channel_id: channel_id == "b")
    assert caller.told == seqs("b", 1, 4)
    assert [each.channel_id for query in messages.queries for each in query.ranges] == ["b"]
    assert [state(each) for each in wanted] == [(4, 0, False), (4, 4, True)]


@pytest.mark.parametrize("lost_after", [0, 1, 7, PAGE_MESSAGES, PAGE_MESSAGES + 3])
async def test_after_the_membership_was_lost_nothing_is_sent(lost_after: int) -> None:
    messages, caller = FakeMessages(a=range(1, 1000)), FakeCaller()
    wanted = stretch("a", 0, 1000)
    await replay(node_with(messages), caller, [wanted], may_hear=lambda _: len(caller.sent) < lost_after)
    assert caller.told == seqs("a", 1, lost_after)
    assert state(wanted) == (999, lost_after, False)


async def test_a_membership_that_is_lost_while_the_query_runs_or_the_client_reads_counts() -> None:
    messages, caller = FakeMessages(a=range(1, 10), b=range(1, 10)), FakeCaller(room=3)
    members = {"a", "b"}

    async def lose_a() -> None:
        members.discard("a")

    messages.before_answer = lose_a
    wanted = [stretch("a", 0, 10), stretch("b", 0, 10)]

    def may_hear(channel_id: ChannelId) -> bool:
        return channel_id in members

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: replay(node_with(messages), caller, wanted, may_hear=may_hear))
        await wait_all_tasks_blocked()
        assert caller.told == seqs("b", 1, 3)
        members.discard("b")
        caller.read(100)
    assert caller.told == seqs("b", 1, 3)
    assert [state(each) for each in wanted] == [(9, 0, False), (9, 3, False)]


async def test_who_became_a_member_again_hears_nothing_of_what_was_given_up() -> None:
    messages, caller = FakeMessages(a=range(1, 10)), FakeCaller()
    asked = iter([True, True, False])
    wanted = stretch("a", 0, 10)
    await replay(node_with(messages), caller, [wanted], may_hear=lambda _: next(asked, True))
    assert caller.told == [("a", 1)]
    assert state(wanted) == (9, 1, False)


# --- the client's pace, and endings ------------------------------------------------------------------------


async def test_no_more_is_sent_than_the_client_reads() -> None:
    messages, caller = FakeMessages(a=range(1, 500)), FakeCaller(room=0)
    wanted = stretch("a", 0, 500)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replay, node_with(messages), caller, [wanted])
        await wait_all_tasks_blocked()
        # A crowded client is not even read for.
        assert messages.queries == []
        for told in (1, 50, PAGE_MESSAGES, PAGE_MESSAGES + 1, 300):
            caller.read(told - len(caller.sent))
            await wait_all_tasks_blocked()
            assert (len(caller.sent), wanted.span.after) == (told, told)
        caller.read(1000)
    assert caller.told == seqs("a", 1, 499)


async def test_after_an_error_the_stretches_show_what_was_sent() -> None:
    messages, caller = FakeMessages(a=range(1, 1000)), FakeCaller()
    messages.failure, messages.failure_after = BackendUnavailable("away"), 2
    wanted = stretch("a", 0, 1000)
    with pytest.raises(BackendUnavailable):
        await replay(node_with(messages), caller, [wanted])
    assert state(wanted) == (2 * PAGE_MESSAGES, 2 * PAGE_MESSAGES, True)
    messages.failure = None
    await replay(node_with(messages), caller, [wanted])
    assert caller.told == seqs("a", 1, 999)


@pytest.mark.parametrize("waits_for", ["query", "client"])
async def test_once_it_is_cancelled_no_span_moves(waits_for: str) -> None:
    """Also where what it waited for comes in the same instant: the spans may be another connection's by then."""
    messages, caller = FakeMessages(a=range(1, 10)), FakeCaller(room=3 if waits_for == "client" else 100)
    answer = trio.Event()
    if waits_for == "query":
        messages.before_answer = answer.wait
    wanted = stretch("a", 0, 10)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replay, node_with(messages), caller, [wanted])
            await wait_all_tasks_blocked()
            stood_at = wanted.span.after
            answer.set()
            caller.read(100)
            scope.cancel()
    assert wanted.span.after == stood_at == (0 if waits_for == "query" else 3)
    assert len(caller.sent) == stood_at
