"""Requests and events that come many at a time: what leaves together keeps its order, on TCP and TLS."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from livechat.config import StoreSettings
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    Client,
    connected,
    identified,
)
from tests.support.resume import drop, resumed
from tests.support.server import running_server

LOBBY = {"channel_id": "lobby"}
BURST = 200


async def burst(client: Client, first: int = 0, count: int = BURST) -> None:
    """Send messages with ids, and some requests of another kind between them, without waiting."""
    for number in range(first, first + count):
        await client.send(MESSAGE, {**LOBBY, "content": str(number)}, id=number)
        if number % 10 == 0:
            await client.send(HEARTBEAT, id=f"beat {number}")


async def events(client: Client, count: int) -> list[Any]:
    """Return the payloads of the next messages."""
    found: list[Any] = []
    while len(found) < count:
        packet = await client.receive()
        assert packet["op"] in (MESSAGE_EVENT, CHANNEL_EVENT)
        if packet["op"] == MESSAGE_EVENT:
            found.append(packet["d"])
    return found


def assert_answered_in_order(packets: list[dict[str, Any]]) -> None:
    """Each ACK comes in order and before its own event, and the events come in order without a gap."""
    acked = [packet["d"]["data"]["seq"] for packet in packets if packet["op"] == ACK]
    heard = [packet["d"]["seq"] for packet in packets if packet["op"] == MESSAGE_EVENT]
    assert acked == heard == list(range(heard[0], heard[0] + BURST))
    told: set[int] = set()
    for packet in packets:
        if packet["op"] == ACK:
            told.add(packet["d"]["data"]["seq"])
        elif packet["op"] == MESSAGE_EVENT:
            assert packet["d"]["seq"] in told


@pytest.mark.parametrize("store", ["memory:", None])
@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_publisher_with_many_requests_in_flight(is_tls: bool, store: str | None, tmp_path: Path) -> None:
    overrides: dict[str, Any] = {}
    context: ssl.SSLContext | None = None
    if is_tls:
        authority = trustme.CA()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        pem = tmp_path / "pem"
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        overrides |= {"tls_cert": pem, "tls_key": pem}
    if store is not None:
        overrides["store"] = StoreSettings(url=store)
    async with (
        running_server(tmp_path, **overrides) as server,
        identified(server, "alice", tls=context) as alice,
        identified(server, "bob", tls=context) as bob,
        identified(server, "carol", tls=context, binary=True) as carol,
    ):
        await alice.ack(CREATE, LOBBY)
        for client in (alice, bob, carol):
            await client.ack(JOIN, LOBBY)
        for client in (alice, bob):
            assert (await client.expect(CHANNEL_EVENT))["event"] == "join"
        assert (await alice.expect(CHANNEL_EVENT))["event"] == "join"
        before = server.statistics()["gateway"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(burst, alice)
            packets = [await alice.receive() for _ in range(2 * BURST + BURST // 10)]
        beats = [packet["id"] for packet in packets if packet["op"] == HEARTBEAT_ACK]
        assert beats == [f"beat {number}" for number in range(0, BURST, 10)]
        assert_answered_in_order([packet for packet in packets if packet["op"] != HEARTBEAT_ACK])
        for client in (bob, carol):
            assert [event["content"] for event in await events(client, BURST)] == [str(n) for n in range(BURST)]
            await client.expect_silence()
        after = server.statistics()["gateway"]
        assert after["events_encoded"] - before["events_encoded"] == BURST
        assert after["events_delivered"] - before["events_delivered"] == 3 * BURST


async def test_who_joins_in_the_middle_of_a_burst_hears_what_comes_next_and_nothing_twice(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, LOBBY)
        await alice.ack(JOIN, LOBBY)
        async with trio.open_nursery() as nursery:
            for part in range(4):
                nursery.start_soon(burst, alice, part * BURST)
                async with identified(server, f"bob{part}") as bob:
                    joined = await bob.request(JOIN, LOBBY)
                    # What came before the ACK was of no channel of bob's.
                    assert not bob._events
                    last_seq = joined["d"]["data"]["last_seq"]
                    await alice.send(MESSAGE, {**LOBBY, "content": "end"}, id="end")
                    heard: list[Any] = []
                    while not heard or heard[-1]["content"] != "end":
                        heard += await events(bob, 1)
                    seqs = [event["seq"] for event in heard]
                    assert seqs == list(range(last_seq + 1, last_seq + 1 + len(seqs)))
                    await drop(bob)


async def test_who_resumes_in_the_middle_of_a_burst_misses_nothing_and_hears_nothing_twice(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, LOBBY)
        await alice.ack(JOIN, LOBBY)
        async with identified(server, "bob") as bob:
            last = (await bob.ack(JOIN, LOBBY))["last_seq"]
            session_id = bob.ready["session_id"]
            await drop(bob)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(burst, alice, number * BURST)
                async with connected(server) as bob:
                    before, _ = await resumed(bob, session_id, channels={"lobby": last})
                    seqs = [packet["d"]["seq"] for packet in before if packet["op"] == MESSAGE_EVENT]
                    # The burst may be over by now.
                    await alice.send(MESSAGE, {**LOBBY, "content": "end"}, id="end")
                    heard: list[Any] = []
                    while not heard or heard[-1]["content"] != "end":
                        heard += await events(bob, 1)
                    seqs += [event["seq"] for event in heard]
                    assert seqs == list(range(last + 1, last + 1 + len(seqs)))
                    last = seqs[-1]
                    await drop(bob)
