from __future__ import annotations

import attrs
import pytest

from livechat.cluster.sessions import MemorySessionStorage, SessionRecord
from livechat.protocol.types import ChannelId, SessionId, UserId

ANN, BOB = UserId("ann"), UserId("bob")
TTL_S = 10.0


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(clock: Clock) -> MemorySessionStorage:
    return MemorySessionStorage(TTL_S, clock)


def record(number: int = 1, user_id: UserId = ANN, node_id: str = "node_a") -> SessionRecord:
    return SessionRecord(SessionId(f"sess_{number}"), user_id, node_id)


async def test_a_session_is_found_as_it_was_kept(storage: MemorySessionStorage) -> None:
    kept = attrs.evolve(
        record(),
        is_admin=True,
        positions={ChannelId("lobby"): 7},
        unsubscribed=frozenset({ChannelId("hall")}),
        parked_at_ms=5,
    )
    await storage.create(kept)
    assert await storage.get(kept.session_id) == kept
    assert await storage.get(SessionId("sess_2")) is None


async def test_a_changed_session_replaces_what_was_known_of_it(storage: MemorySessionStorage) -> None:
    await storage.create(record())
    parked = attrs.evolve(record(), parked_at_ms=5)
    await storage.create(parked)
    assert await storage.get(parked.session_id) == parked
    assert await storage.of_user(ANN) == [parked]
    assert len(storage) == 1


async def test_a_session_is_over_once_its_time_to_live_has_passed(
    storage: MemorySessionStorage, clock: Clock
) -> None:
    await storage.create(record())
    clock.now += TTL_S - 0.001
    assert await storage.get(record().session_id) == record()
    clock.now += 0.001
    assert await storage.get(record().session_id) is None
    assert await storage.of_user(ANN) == []
    assert len(storage) == 0


async def test_touching_gives_the_whole_time_again_and_only_to_those_that_are_not_over(
    storage: MemorySessionStorage, clock: Clock
) -> None:
    await storage.create(record(1))
    clock.now += TTL_S / 2
    await storage.create(record(2))
    clock.now += TTL_S / 2
    await storage.touch([SessionId("sess_1"), SessionId("sess_2"), SessionId("sess_3")])
    clock.now += TTL_S - 0.001
    assert await storage.get(SessionId("sess_1")) is None
    assert await storage.get(SessionId("sess_2")) == record(2)
    assert await storage.get(SessionId("sess_3")) is None
    assert len(storage) == 1


async def test_taking_over_names_the_new_node_and_tells_how_it_was(
    storage: MemorySessionStorage, clock: Clock
) -> None:
    await storage.create(record())
    clock.now += TTL_S / 2
    assert await storage.take_over(record().session_id, "node_b") == record()
    # It begins a whole life there.
    clock.now += TTL_S - 0.001
    assert await storage.get(record().session_id) == record(node_id="node_b")
    clock.now += 0.001
    assert await storage.take_over(record().session_id, "node_a") is None
    assert await storage.take_over(SessionId("sess_2"), "node_a") is None


async def test_a_deleted_session_is_gone_and_deleting_it_again_does_nothing(storage: MemorySessionStorage) -> None:
    await storage.create(record(1))
    await storage.create(record(2))
    for _ in range(2):
        await storage.delete(SessionId("sess_1"))
        assert await storage.get(SessionId("sess_1")) is None
        assert await storage.of_user(ANN) == [record(2)]
    await storage.delete(SessionId("sess_2"))
    assert len(storage) == 0


async def test_a_users_sessions_are_listed_but_those_that_are_over(
    storage: MemorySessionStorage, clock: Clock
) -> None:
    await storage.create(record(1))
    clock.now += TTL_S / 2
    for number in (3, 2):
        await storage.create(record(number))
    await storage.create(record(4, BOB))
    assert await storage.of_user(ANN) == [record(1), record(2), record(3)]
    clock.now += TTL_S / 2
    assert await storage.of_user(ANN) == [record(2), record(3)]
    assert await storage.of_user(BOB) == [record(4, BOB)]
    assert await storage.of_user(UserId("cyd")) == []


async def test_nothing_is_left_of_sessions_that_are_over(storage: MemorySessionStorage, clock: Clock) -> None:
    for number in range(5):
        await storage.create(record(number))
    await storage.delete(SessionId("sess_0"))
    clock.now += TTL_S
    await storage.touch([SessionId(f"sess_{number}") for number in range(5)])
    assert (storage._records, storage._by_user) == ({}, {})


def test_a_session_id_does_not_show_in_a_repr() -> None:
    assert "sess_1" not in repr(record())
