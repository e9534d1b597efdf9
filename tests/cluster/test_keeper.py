from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from livechat.cluster.keeper import RETRY_S, STORAGE_TIMEOUT_S, SessionKeeper
from livechat.hub.users import Session, UserHub
from livechat.protocol.types import ChannelId, SessionId, UserId
from tests.support.outlet import NullOutlet
from tests.support.session_storage import FaultySessionStorage, unavailable

ANN = UserId("ann")
LOBBY, HALL = ChannelId("lobby"), ChannelId("hall")
TOUCH_S = 30.0


class Desk:
    """A keeper, its storage, and the sessions it is to keep it informed of."""

    def __init__(self) -> None:
        self.users = UserHub()
        self.storage = FaultySessionStorage()
        self.keeper = SessionKeeper(self.storage, self.users, "node_a", touch_interval_s=TOUCH_S)

    def begin(self, number: int) -> Session:
        session = Session(SessionId(f"sess_{number}"), ANN, trio.current_time(), outlet=NullOutlet())
        self.users.add(session)
        self.keeper.note(session)
        return session

    def park(self, session: Session, now_ms: int = 5) -> None:
        self.users.park(session, trio.current_time(), now_ms)
        self.keeper.note(session)

    def end(self, session: Session) -> None:
        self.users.end(session)
        self.keeper.note(session)

    def calls(self, method: str) -> list[float]:
        return [at for name, at in self.storage.calls if name == method]


@pytest.fixture
async def desk(nursery: trio.Nursery) -> Desk:
    """A keeper at work; the tests themselves ask for the clock, for only then it is used."""
    desk = Desk()
    nursery.start_soon(desk.keeper.run)
    await wait_all_tasks_blocked()
    return desk


async def test_a_session_is_kept_as_it_begins_is_parked_and_ends(
    autojump_clock: trio.abc.Clock, desk: Desk
) -> None:
    session = desk.begin(1)
    await wait_all_tasks_blocked()
    kept = await desk.storage.inner.get(session.session_id)
    assert kept is not None
    assert (kept.user_id, kept.node_id, kept.parked_at_ms, dict(kept.positions)) == (ANN, "node_a", None, {})
    session.is_admin = True
    session.unsubscribed |= {HALL}
    desk.users.park(session, trio.current_time(), 77)
    session.miss_from(LOBBY, 5)
    desk.keeper.note(session)
    await wait_all_tasks_blocked()
    kept = await desk.storage.inner.get(session.session_id)
    assert kept is not None
    assert (kept.is_admin, kept.parked_at_ms, dict(kept.positions)) == (True, 77, {LOBBY: 4})
    assert kept.unsubscribed == {HALL}
    desk.end(session)
    await wait_all_tasks_blocked()
    assert await desk.storage.inner.get(session.session_id) is None


async def test_noting_before_the_task_runs_is_not_lost(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    desk = Desk()
    for number in range(3):
        desk.begin(number)
    nursery.start_soon(desk.keeper.run)
    await wait_all_tasks_blocked()
    assert len(desk.storage.inner) == 3


async def test_what_changes_often_is_written_as_it_stands_then(autojump_clock: trio.abc.Clock, desk: Desk) -> None:
    session = desk.begin(1)
    desk.park(session)
    desk.end(session)
    await wait_all_tasks_blocked()
    assert [method for method, _ in desk.storage.calls] == ["delete"]


async def test_what_changes_while_it_is_written_is_written_again(
    autojump_clock: trio.abc.Clock, desk: Desk
) -> None:
    desk.storage.hangs = True
    session = desk.begin(1)
    await wait_all_tasks_blocked()
    desk.end(session)
    desk.storage.hangs = False
    with capture_logs():
        await trio.sleep(STORAGE_TIMEOUT_S + RETRY_S + 1)
    assert [method for method, _ in desk.storage.calls] == ["create", "delete"]
    assert len(desk.storage.inner) == 0


@pytest.mark.parametrize("fault", [unavailable(), RuntimeError("a driver's own bug"), OSError()])
async def test_a_storage_that_fails_is_tried_again_until_it_heals(
    autojump_clock: trio.abc.Clock, desk: Desk, fault: Exception
) -> None:
    desk.storage.fault = fault
    with capture_logs() as logs:
        first, second = desk.begin(1), desk.begin(2)
        await trio.sleep(10.5 * RETRY_S)
    assert 10 <= len(desk.calls("create")) <= 11
    assert {entry["event"] for entry in logs} == {"session storage failed"}
    assert all(entry["error"] for entry in logs)
    desk.end(second)
    desk.storage.fault = None
    with capture_logs() as logs:
        await trio.sleep(2 * RETRY_S)
    assert await desk.storage.inner.get(first.session_id) is not None
    assert len(desk.storage.inner) == 1
    assert logs == []


async def test_a_storage_that_hangs_is_given_up_in_time_and_tried_again(
    autojump_clock: trio.abc.Clock, desk: Desk
) -> None:
    desk.storage.hangs = True
    began_at = trio.current_time()
    desk.begin(1)
    with capture_logs() as logs:
        await trio.sleep(STORAGE_TIMEOUT_S + RETRY_S + 1)
    assert [at - began_at for at in desk.calls("create")] == [0, STORAGE_TIMEOUT_S + RETRY_S]
    assert len(logs) == 1
    desk.storage.hangs = False
    with capture_logs():
        await trio.sleep(STORAGE_TIMEOUT_S + RETRY_S)
    assert len(desk.storage.inner) == 1


async def test_noting_never_waits_for_a_storage(autojump_clock: trio.abc.Clock, desk: Desk) -> None:
    desk.storage.hangs = True
    began_at = trio.current_time()
    for number in range(100):
        desk.begin(number)
    assert trio.current_time() == began_at


async def test_all_sessions_are_touched_from_time_to_time(autojump_clock: trio.abc.Clock, desk: Desk) -> None:
    desk.begin(1)
    parked = desk.begin(2)
    desk.park(parked)
    desk.end(desk.begin(3))
    await trio.sleep(3.5 * TOUCH_S)
    assert len(desk.calls("touch")) == 3
    touched: list[SessionId] = []

    async def touch(session_ids: object) -> None:
        assert isinstance(session_ids, list)
        touched.extend(session_ids)

    desk.storage.touch = touch  # type: ignore[method-assign]
    await trio.sleep(TOUCH_S)
    assert touched == ["sess_1", "sess_2"]


async def test_sessions_are_touched_also_while_many_change(autojump_clock: trio.abc.Clock, desk: Desk) -> None:
    for number in range(200):
        desk.begin(number)
        await trio.sleep(1)
    assert 5 <= len(desk.calls("touch")) <= 7


async def test_a_touch_that_fails_or_hangs_does_not_stop_the_next_ones(
    autojump_clock: trio.abc.Clock, desk: Desk
) -> None:
    desk.begin(1)
    await wait_all_tasks_blocked()
    with capture_logs() as logs:
        desk.storage.fault = unavailable()
        await trio.sleep(TOUCH_S + 1)
        desk.storage.fault, desk.storage.hangs = None, True
        await trio.sleep(TOUCH_S + STORAGE_TIMEOUT_S)
        desk.storage.hangs = False
    assert [entry["event"] for entry in logs] == ["session storage failed"] * 2
    await trio.sleep(TOUCH_S)
    assert len(desk.calls("touch")) == 3
