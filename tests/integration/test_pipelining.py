"""Requests sent without waiting for replies: answered in order per channel, each knowing of those before."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from livechat.store.operations import GetChannel
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    ERROR,
    FOCUS,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_ADD,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    READ,
    SUBSCRIBE,
    SYNC,
    TYPING,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    Packet,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.server import running_server, wait_until

X = {"channel_id": "x"}
Y = {"channel_id": "y"}


async def replies(client: Client, count: int) -> list[Packet]:
    """Return the next replies; events between them are dropped."""
    found: list[Packet] = []
    while len(found) < count:
        packet = await client.receive()
        if packet["op"] in (ACK, ERROR):
            found.append(packet)
    return found


async def test_a_join_is_known_to_what_follows_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, X)
        await alice.send(JOIN, X, id=1)
        await alice.send(SUBSCRIBE, X, id=2)
        await alice.send(HISTORY, X, id=3)
        await alice.send(MESSAGE, {**X, "content": "two"}, id=4)
        joined, subscribed, history, message = await replies(alice, 4)
        assert joined["d"]["data"]["last_seq"] == subscribed["d"]["data"]["last_seq"] == 1
        assert [entry["seq"] for entry in history["d"]["data"]["messages"]] == [1]
        assert message["d"]["data"]["seq"] == 2


async def test_history_holds_every_message_that_was_sent_before_it_and_none_that_was_sent_after(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, X)
        await alice.ack(JOIN, X)
        rounds = 50
        for number in range(rounds):
            await alice.send(MESSAGE, {**X, "content": f"{number}"}, id=f"m{number}")
            await alice.send(HISTORY, {**X, "limit": 3}, id=f"h{number}")
        for number in range(rounds):
            stored, page = await replies(alice, 2)
            assert (stored["id"], page["id"]) == (f"m{number}", f"h{number}")
            seq = stored["d"]["data"]["seq"]
            assert page["d"]["data"]["messages"][-1]["seq"] == page["d"]["data"]["last_seq"] == seq == number + 2


async def test_what_reads_does_not_hold_up_other_channels(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        for channel in (X, Y):
            await alice.ack(CREATE, channel)
            await alice.ack(JOIN, channel)
        door.close_for_queries()
        await alice.send(HISTORY, X, id="history")
        await alice.send(MESSAGE, {**X, "content": "waits"}, id="x")
        await alice.send(MESSAGE, {**Y, "content": "does not"}, id="y")
        await alice.send(LIST, None, id="list")
        assert {reply["id"] for reply in await replies(alice, 2)} == {"y", "list"}
        assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        assert door.fetches_waiting == 1
        door.open()
        history, message = await replies(alice, 2)
        assert (history["id"], message["id"]) == ("history", "x")
        assert history["d"]["data"]["last_seq"] == 1


async def test_a_reply_comes_before_every_event_that_its_request_causes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        script: list[tuple[int, dict[str, Any], list[int]]] = [
            (CREATE, X, []),
            (JOIN, X, []),
            (MESSAGE, {**X, "content": "one"}, [MESSAGE_EVENT]),
            (MEMBER_ADD, {**X, "user_id": "bob"}, [CHANNEL_EVENT]),
            (MEMBER_ADD, {**X, "user_id": "bob", "role": "moderator"}, [CHANNEL_EVENT]),
            (MEMBER_REMOVE, {**X, "user_id": "bob", "ban": True}, [CHANNEL_EVENT]),
            (UPDATE, {**X, "channel_name": "new"}, [CHANNEL_EVENT]),
            (MESSAGE, {**X, "content": "@", "mentions": ["alice"]}, [MESSAGE_EVENT]),
            (READ, {**X, "seq": 3}, []),
            (DELETE, X, [CHANNEL_EVENT]),
            (CREATE, X, []),
            # The owner adds itself.
            (MEMBER_ADD, {**X, "user_id": "alice"}, [CHANNEL_EVENT, NOTIFICATION]),
            (MEMBER_ADD, {**X, "user_id": "carol"}, [CHANNEL_EVENT]),
        ]
        for number, (op, d, _) in enumerate(script):
            await alice.send(op, d, id=number)
        for number, (_, _, events) in enumerate(script):
            reply = await alice.receive()
            assert (reply["op"], reply["id"]) == (ACK, number)
            # What follows may have been answered before these, but not the other way round.
            for op in events:
                assert (await alice.receive())["op"] == op
        await alice.expect_silence()


async def test_a_thousand_requests_of_all_kinds_are_answered_in_order_per_channel(tmp_path: Path) -> None:
    rng = random.Random(7)
    names = [f"c{number}" for number in range(5)]
    kinds: list[tuple[int, dict[str, Any]]] = [
        (MESSAGE, {"content": "x"}),
        (MESSAGE, {"content": ""}),
        (HISTORY, {"limit": 2}),
        (TYPING, {"typing": True}),
        (FOCUS, {}),
        (SUBSCRIBE, {}),
        (UNSUBSCRIBE, {}),
        (INFO, {}),
        (JOIN, {}),
        (READ, {"seq": 0}),
    ]
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for name in names:
            await alice.ack(CREATE, {"channel_id": name})
            await alice.ack(JOIN, {"channel_id": name})
        asked: dict[str, list[int]] = defaultdict(list)
        for number in range(1000):
            name = rng.choice(names)
            op, fields = rng.choice(kinds)
            asked[name].append(number)
            await alice.send(op, {"channel_id": name, **fields}, id=f"{name} {number}")
            if number % 100 == 0:
                await alice.send(SYNC, {"channels": {name: {"after": 0, "before": 2}}}, id=f"sync {number}")
        answered: dict[str, list[int]] = defaultdict(list)
        for reply in await replies(alice, 1010):
            key, number = reply["id"].split()
            answered[key].append(int(number))
        assert answered.pop("sync") == list(range(0, 1000, 100))
        assert answered == asked


async def test_more_requests_than_may_wait_are_read_once_there_is_room(tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path, gateway={"requests_in_flight": 4}) as (server, door),
        identified(server, "alice") as alice,
    ):
        await alice.ack(CREATE, X)
        await alice.ack(JOIN, X)
        door.close_for_queries()
        for number in range(50):
            await alice.send(HISTORY, X, id=number)
        await wait_until(lambda: door.fetches_waiting == 1)
        door.open()
        assert [reply["id"] for reply in await replies(alice, 50)] == list(range(50))


async def test_who_becomes_a_member_before_being_answered_is_answered_as_one(tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path) as (server, door),
        identified(server, "alice") as alice,
        identified(server, "alice") as other,
    ):
        await alice.ack(CREATE, X)
        door.close_for(GetChannel)
        for request_id, op in enumerate((SUBSCRIBE, UNSUBSCRIBE, FOCUS, TYPING)):
            await other.send(op, {**X, "typing": True}, id=request_id)
            await wait_until(lambda: door.operations_waiting == 1)
            await alice.ack(JOIN, X)
            assert (await other.expect(CHANNEL_EVENT))["event"] == "join"
            door.open()
            # What was told before must not be denied now.
            assert (await other.expect(ACK))["op"] == op
            await other.ack(LEAVE, X)
            assert (await alice.expect(CHANNEL_EVENT))["event"] == "leave"
            door.close_for(GetChannel)
