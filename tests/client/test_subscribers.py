from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.client.error import ClientError, SubscriberTooSlow
from livechat.client.subscribers import Subscribers, Subscription


def everything(event: int) -> int:
    return event


def even(event: int) -> int | None:
    return event if event % 2 == 0 else None


async def take(subscription: Subscription[int], count: int) -> list[int]:
    return [await anext(subscription) for _ in range(count)]


async def test_every_subscriber_gets_everything_from_when_it_subscribed() -> None:
    subscribers = Subscribers(buffered_max=10)
    first = subscribers.subscribe(everything)
    subscribers.publish(1)
    second = subscribers.subscribe(everything)
    subscribers.publish(2)
    assert await take(first, 2) == [1, 2]
    assert await take(second, 1) == [2]


async def test_a_reader_that_waits_is_woken(autojump_clock: trio.testing.MockClock) -> None:
    subscribers = Subscribers(buffered_max=10)
    taken: list[int] = []
    subscription = subscribers.subscribe(everything)

    async def read() -> None:
        taken.extend(await take(subscription, 3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for event in (1, 2, 3):
            subscribers.publish(event)
    assert taken == [1, 2, 3]


async def test_what_is_not_for_a_subscriber_takes_no_room() -> None:
    subscribers = Subscribers(buffered_max=2)
    subscription = subscribers.subscribe(even)
    for event in (1, 2, 3, 4, 5, 7, 9):
        subscribers.publish(event)
    assert await take(subscription, 2) == [2, 4]


async def test_who_does_not_read_is_ended_after_what_it_could_keep_and_the_others_go_on() -> None:
    subscribers = Subscribers(buffered_max=3)
    idle, busy = subscribers.subscribe(everything), subscribers.subscribe(everything)
    for event in range(10):
        subscribers.publish(event)
        assert await take(busy, 1) == [event]
    assert await take(idle, 3) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(SubscriberTooSlow, match="3 events"):
            await anext(idle)


async def test_the_end_comes_after_what_is_buffered() -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)
    subscribers.publish(1)
    subscribers.end(None)
    subscribers.publish(2)
    assert [event async for event in subscription] == [1]
    assert [event async for event in subscribers.subscribe(everything)] == []


async def test_a_reader_that_waits_hears_of_the_end(autojump_clock: trio.testing.MockClock) -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)

    async def read() -> None:
        with pytest.raises(ClientError, match="gone"):
            await anext(subscription)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        subscribers.end(ClientError("gone"))
    with pytest.raises(ClientError, match="gone"):
        await anext(subscribers.subscribe(everything))


async def test_two_readers_of_one_subscription_share_it(autojump_clock: trio.testing.MockClock) -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)
    taken: list[int] = []

    async def read() -> None:
        taken.extend([event async for event in subscription])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        subscribers.publish(1)
        subscribers.publish(2)
        await wait_all_tasks_blocked()
        subscribers.end(None)
    assert sorted(taken) == [1, 2]


async def test_a_subscription_can_be_closed() -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)
    subscription.close()
    subscribers.publish(1)
    assert [event async for event in subscription] == []


async def test_a_subscription_that_was_dropped_is_forgotten() -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)
    assert len(subscribers) == 1
    del subscription
    gc.collect()
    assert len(subscribers) == 0


async def test_cancelled_it_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    subscribers = Subscribers(buffered_max=3)
    subscription = subscribers.subscribe(everything)
    subscribers.publish(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(subscription)
    assert await take(subscription, 1) == [1]
