"""Voice relayed by worker processes: for clients it is as ever, also when a worker fails."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from pylibsrtp import Error, Session

import livechat
from livechat.handlers.node import WorkerInfo
from livechat.media.workers import link, plane, supervisor
from livechat.media.workers.link import Link
from livechat.srtp.profile import SrtpProfile
from tests.integration import test_speaking, test_voice
from tests.integration.test_speaking import LOUD, callers_in
from tests.integration.test_voice import Phone, phone_of, talker_and_listener
from tests.support.api import calling, origin_of
from tests.support.client import CHANNEL_EVENT, CREATE, JOIN, MESSAGE_EVENT, SPEAKING, Client, identified
from tests.support.server import running_server, wait_until
from tests.support.voice import libsrtp_receiver, libsrtp_sender

FLOOR_REQUEST, FLOOR_GRANTED, MEDIA_UPDATE = 30, 110, 118
PROFILE = SrtpProfile.AES_CM_128_HMAC_SHA1_80.value
QUICK = livechat.MediaSettings(workers=1, worker_timeout_ms=1000)


def workers_of(server: livechat.Server) -> list[WorkerInfo]:
    return server._node.media.workers()


def pid_of(server: livechat.Server, worker: int = 0) -> int:
    pid = workers_of(server)[worker].pid
    assert pid is not None
    return pid


def keys_of(server: livechat.Server) -> set[bytes]:
    return {key for peer in server._node.media.hub for key in (peer.client_key, peer.server_key)}


def is_gone(pid: int) -> bool:
    """Tell whether a child of ours has ended, and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def all_run(server: livechat.Server) -> None:
    await wait_until(lambda: {worker.state for worker in workers_of(server)} == {"running"})


async def follow(client: Client, phone: Phone) -> Session:
    """Wait for MEDIA_UPDATE and go over to its keys, all at once; return what opened what came before."""
    update = await client.expect(MEDIA_UPDATE)
    media: dict[str, Any] = update["media"]
    assert (update["channel_id"], update["cause"]) == ("x", "moved")
    assert phone.server == (media["host"], media["port"]), "the port stays bound"
    assert phone.ssrc == media["ssrc"]
    profile, before = SrtpProfile(media["profile"]), phone.receiver
    phone.sender = libsrtp_sender(profile, base64.b64decode(media["client_key"]))
    phone.receiver = libsrtp_receiver(profile, base64.b64decode(media["server_key"]))
    return before


# --- as ever ------------------------------------------------------------------------------------------

CORE: dict[str, Callable[[Path], Awaitable[None]]] = {
    "hears": partial(test_voice.test_libsrtp_peers_hear_each_other, PROFILE),
    "forgery": test_voice.test_a_forgery_or_replay_from_elsewhere_moves_nothing,
    "takeover": test_voice.test_a_newer_session_takes_voice_over,
    "silence": test_voice.test_a_silent_peer_ends_and_the_channel_is_told,
    "speaking": test_speaking.test_all_members_are_told_when_somebody_begins_and_ends_to_speak,
    "loudest": test_speaking.test_only_the_loudest_are_forwarded_and_a_louder_one_takes_over,
}


@pytest.mark.parametrize("case", CORE.values(), ids=CORE)
async def test_what_stands_in_one_process_stands_with_a_worker(
    case: Callable[[Path], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_worker(config: livechat.Config) -> livechat.Config:
        return attrs.evolve(config, media=attrs.evolve(config.media, workers=1))

    started: list[int] = []

    async def note(sock: Any) -> Link:
        started.append(sock.fileno())
        return await link_start(sock)

    link_start, open_server = link.start, livechat.open_server
    monkeypatch.setattr(link, "start", note)
    monkeypatch.setattr(livechat, "open_server", lambda config: open_server(with_a_worker(config)))
    await case(tmp_path)
    assert len(started) == 1


async def test_channels_are_spread_over_workers_each_with_its_port(tmp_path: Path) -> None:
    media = livechat.MediaSettings(workers=2)
    async with (
        running_server(tmp_path, media=media) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        ports = [port for _, port in server.addresses.media]
        assert len(set(ports)) == 2
        used = set()
        for channel_id in ("x", "y", "z", "lobby"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            async with (
                phone_of(alice, channel_id, ssrc=1) as talker,
                phone_of(bob, channel_id, state_address=True) as listener,
            ):
                await alice.expect(CHANNEL_EVENT)
                assert talker.server == listener.server
                used.add(talker.server[1])
                await talker.talk(1, channel_id.encode())
                assert (await listener.hear())[2] == channel_id.encode()
        assert used == set(ports)
        assert [worker.port for worker in workers_of(server)] == ports
        await wait_until(lambda: server.statistics()["media"]["rtp_forwarded"] == 4)
        assert server.statistics()["media"]["peers"] == 8


async def test_with_the_floor_one_is_heard_at_once_and_without_it_not(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=QUICK) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x", "mode": "ptt"})
        async with phone_of(alice, "x", ssrc=1) as talker, phone_of(bob, "x", state_address=True) as listener:
            await talker.talk(1, b"without")
            await wait_until(lambda: server.statistics()["media"]["not_forwarded"] == 1)
            await alice.send(FLOOR_REQUEST, {"channel_id": "x"})
            while (await alice.receive())["op"] != FLOOR_GRANTED:
                pass
            await talker.talk(2, b"with")
            assert (await listener.hear())[2] == b"with"


async def test_operators_see_the_workers(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=attrs.evolve(QUICK, workers=2)) as server,
        talker_and_listener(server, PROFILE) as (_, _, talker, listener),
        calling(server) as client,
    ):
        await talker.talk(1)
        await listener.hear()
        number = server._node.media.worker_of("x")  # type: ignore[arg-type]  # any text is an id
        assert number is not None
        await wait_until(lambda: workers_of(server)[number].packets_forwarded == 1)
        await all_run(server)
        shown = (await client.get("/admin/status")).json()["media_workers"]
        assert [(worker["worker"], worker["state"], worker["restarts"]) for worker in shown] == [
            (0, "running", 0),
            (1, "running", 0),
        ]
        assert (shown[number]["peers"], shown[1 - number]["peers"]) == (2, 0)
        assert shown[number]["cpu_s"] > 0 < shown[number]["memory_bytes"]
        peers = (await client.get("/admin/peers")).json()["peers"]
        assert [peer["worker"] for peer in peers] == [number, number]
        assert peers[0]["packets_forwarded"] == 1
        metrics = (await client.get(origin_of(server) + "/metrics")).text
        assert 'livechat_media_workers{state="running"} 2.0' in metrics
        assert f'livechat_media_worker_packets_total{{direction="out",worker="{number}"}} 1.0' in metrics


# --- a worker that fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hangs"])
async def test_a_worker_that_fails_is_started_anew_and_its_peers_get_new_keys(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with (
        running_server(tmp_path, media=QUICK) as server,
        talker_and_listener(server, PROFILE) as (alice, bob, talker, listener),
    ):
        await talker.talk(1, b"before")
        assert (await listener.hear())[2] == b"before"
        await wait_until(lambda: server.statistics()["media"]["rtp_forwarded"] == 1)
        failed, spent = pid_of(server), keys_of(server)
        os.kill(failed, number)
        await follow(alice, talker)
        await follow(bob, listener)
        await talker.talk(2, b"after")
        ssrc, sequence, payload = await listener.hear()
        assert (ssrc, payload) == (talker.ssrc, b"after")
        assert 1000 <= sequence < 2**15
        await listener.talk(1, b"and back")
        assert (await talker.hear())[2] == b"and back"
        (worker,) = workers_of(server)
        assert worker.pid != failed
        assert (worker.restarts, worker.peers) == (1, 2)
        assert is_gone(failed)
        assert len(spent) == len(keys_of(server)) == 4
        assert spent.isdisjoint(keys_of(server))
        await wait_until(lambda: server.statistics()["media"]["rtp_forwarded"] == 3)


async def test_who_spoke_when_a_worker_failed_speaks_no_more(tmp_path: Path) -> None:
    settings = livechat.SpeakingSettings(event_interval_ms=1, hangover_ms=60_000)
    async with (
        running_server(tmp_path, media=QUICK, speaking=settings) as server,
        callers_in(server, "alice", "bob") as (alice, bob),
    ):
        for _ in range(3):
            await alice.talk(LOUD)
        assert (await bob.client.expect(SPEAKING))["speaking"] is True
        os.kill(pid_of(server), signal.SIGKILL)
        told = await bob.client.expect(SPEAKING)
        assert (told["user_id"], told["speaking"]) == ("alice", False)
        await follow(bob.client, bob.phone)


async def test_under_load_nothing_is_lost_from_the_new_keys_on(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=QUICK) as server,
        talker_and_listener(server, PROFILE) as (alice, bob, talker, listener),
        trio.open_nursery() as nursery,
    ):
        sent = 0

        async def keep_talking() -> None:
            nonlocal sent
            while True:
                sent += 1
                await talker.talk(sent, b"%d" % sent)
                await trio.sleep(0.005)

        nursery.start_soon(keep_talking)
        for _ in range(20):
            await listener.hear()
        os.kill(pid_of(server), signal.SIGKILL)
        older = await follow(bob, listener)
        await follow(alice, talker)
        first = sent + 1
        heard: list[int] = []
        while len(heard) < 100:
            packet = await listener.receive()
            try:
                plain = listener.receiver.unprotect(packet)
            except Error:
                # From before the kill, still in our socket.
                assert not heard
                older.unprotect(packet)
            else:
                heard.append(int(plain[12:]))
        assert heard == list(range(first, first + 100))
        nursery.cancel_scope.cancel()


async def test_a_join_while_a_worker_starts_has_voice_once_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, start = trio.Event(), link.start

    async def start_later(sock: Any) -> Link:
        await gate.wait()
        return await start(sock)

    async with (
        running_server(tmp_path, media=QUICK) as server,
        talker_and_listener(server, PROFILE) as (alice, _, talker, _),
        identified(server, "carol") as carol,
        identified(server, "dave") as dave,
    ):
        await all_run(server)
        monkeypatch.setattr(link, "start", start_later)
        os.kill(pid_of(server), signal.SIGKILL)
        await wait_until(lambda: workers_of(server)[0].pid is None)
        async with phone_of(carol, "x", state_address=True) as late, phone_of(dave, "x", ssrc=4):
            # What the gateway is told in the meantime counts as well: Dave leaves.
            await dave.ack(12, {"channel_id": "x"})
            gate.set()
            for _ in range(3):
                await alice.expect(CHANNEL_EVENT)
            await follow(alice, talker)
            await talker.talk(1, b"welcome")
            assert (await late.hear())[2] == b"welcome"
            assert workers_of(server)[0].peers == 3
            # Its keys were never told to a worker that ended, so they are as good as ever.
            await all_run(server)
            await carol.expect(CHANNEL_EVENT)
            await carol.expect(CHANNEL_EVENT)
            await carol.expect_silence()


async def test_a_worker_that_does_not_come_back_takes_voice_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = link.start

    async def fail(_sock: object) -> Link:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "LOST_AFTER_S", 0.1)
    monkeypatch.setattr(supervisor, "PAUSE_MAX_S", 0.1)
    with structlog.testing.capture_logs() as lines:
        async with (
            running_server(tmp_path, media=QUICK) as server,
            identified(server, "alice") as alice,
            calling(server) as client,
        ):
            await alice.ack(CREATE, {"channel_id": "x"})
            await all_run(server)
            monkeypatch.setattr(link, "start", fail)
            os.kill(pid_of(server), signal.SIGKILL)
            await wait_until(lambda: [line for line in lines if line["log_level"] == "error"])
            refusal = await alice.refused(JOIN, {"channel_id": "x", "ssrc": 1})
            assert (refusal["code"], refusal["action"], refusal["retry_after_ms"]) == (2007, "RETRY", 5000)
            await alice.ack(JOIN, {"channel_id": "x"})
            await alice.say("x", "but we can write")
            await alice.expect(MESSAGE_EVENT)
            assert (await client.get(origin_of(server) + "/readyz")).status_code == 200
            metrics = (await client.get(origin_of(server) + "/metrics")).text
            assert 'livechat_media_workers{state="down"} 1.0' in metrics
            monkeypatch.setattr(link, "start", start)
            await all_run(server)
            async with phone_of(alice, "x", ssrc=1):
                pass
    said = [line["event"] for line in lines if line["log_level"] == "error"]
    assert said == ["media worker does not come back, its channels have no voice"]
    assert [line["event"] for line in lines].count("media worker is back") == 1


# --- the end ------------------------------------------------------------------------------------------


@asynccontextmanager
async def noted_workers(tmp_path: Path, pids: list[int]) -> AsyncGenerator[livechat.Server]:
    async with running_server(tmp_path, media=livechat.MediaSettings(workers=2)) as server:
        await all_run(server)
        pids += [pid_of(server, 0), pid_of(server, 1)]
        yield server


async def test_leaving_says_goodbye_and_leaves_nothing(tmp_path: Path) -> None:
    pids: list[int] = []
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        address = {"host": "127.0.0.1", "port": sock.getsockname()[1]}
        async with noted_workers(tmp_path, pids) as server, identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
            joined = await alice.ack(JOIN, {"channel_id": "x", "media": {"address": address}})
            listener = Phone(sock, joined["media"])
            async with identified(server, "bob") as bob, phone_of(bob, "x", ssrc=2) as talker:
                await alice.expect(CHANNEL_EVENT)
                await talker.talk(1, b"hello")
                assert (await listener.hear())[2] == b"hello"
        assert all(map(is_gone, pids))
        # Whose session the end of the server finds first says goodbye to the other.
        with trio.fail_after(1):
            listener.receiver.unprotect_rtcp(await sock.recv(2048))


async def test_leaving_by_an_exception_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):
        async with noted_workers(tmp_path, pids):
            raise ZeroDivisionError
    assert len(pids) == 2
    assert all(map(is_gone, pids))


async def test_cancellation_leaves_no_process_even_of_workers_that_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane, "STOP_TIMEOUT_S", 0.2)
    pids: list[int] = []
    with trio.CancelScope() as scope:
        async with noted_workers(tmp_path, pids):
            os.kill(pids[0], signal.SIGSTOP)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert len(pids) == 2
    assert all(map(is_gone, pids))
