"""The load of voice: what is sent can be opened, what comes back is accounted for, the peers relay rightly."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import attrs
import pytest
import trio

from benchmarks.peers.trio_naive import Keys, Talker
from benchmarks.support.cpu import pin, process_cpu_ns, two_cores, waited_ns
from benchmarks.support.media_probe import LAG_MAX_NS, LATE_MAX_NS, Probe, estimate_hz, latency, probe, warm_up
from benchmarks.support.media_start import (
    PEERS,
    MediaScenario,
    available_peers,
    make_drain,
    running_livechat,
    running_peer,
)
from benchmarks.support.media_system import MediaSystem, RoomKeys, packet_bytes
from benchmarks.support.mmsg import Outbox
from benchmarks.support.processes import first_of
from benchmarks.support.prometheus import by_label, parse
from benchmarks.support.scenario import PROFILES, Progress
from livechat.srtp.profile import SrtpProfile

HERE = [name for name, lacking in available_peers().items() if lacking is None]
EVERYWHERE = set(os.sched_getaffinity(0))
GOOD = Probe(
    rate_hz=100.0,
    sent=10,
    expected=30,
    received=30,
    lag_ns=0,
    span_ns=100_000_000,
    late_p99_ns=0,
    generator_busy=0.1,
    relay_cpu_ns=30_000,
    waited_ns=0,
    drops={},
)


def test_a_trial_that_lost_nothing_holds() -> None:
    assert GOOD.failure is None
    assert GOOD.cpu_us_per_leg == pytest.approx(1.0)
    assert GOOD.relay_cores == pytest.approx(0.0003)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"received": 29}, "lost"),
        ({"received": 31}, "duplicated"),
        ({"drops": {"would_block": 1}}, "dropped"),
        ({"drops": {"queue": 1}, "received": 27}, "lost"),
        ({"drops": {"drain": 1}, "received": 29}, "generator"),
        ({"late_p99_ns": LATE_MAX_NS + 1}, "generator"),
        ({"lag_ns": LAG_MAX_NS + 1}, "queued"),
    ],
)
def test_a_trial_fails_for_any_loss_and_for_a_queue_that_grows(change: dict[str, object], failure: str) -> None:
    assert attrs.evolve(GOOD, **change).failure == failure  # type: ignore[arg-type] # of the table above


def test_only_as_much_lag_as_others_caused_is_excused() -> None:
    waited = attrs.evolve(GOOD, waited_ns=20_000_000, lag_ns=40_000_000)
    assert waited.is_disturbed
    assert not attrs.evolve(waited, lag_ns=60_000_000).is_disturbed
    assert not attrs.evolve(waited, waited_ns=0).is_disturbed


def test_packets_have_the_length_that_each_profile_gives_them() -> None:
    tags = dict(zip(PROFILES, (10, 4, 16, 16), strict=True))
    assert {profile: packet_bytes(profile, 160) - 172 for profile in PROFILES} == tags


def test_what_a_peer_lacks_is_known() -> None:
    assert available_peers(lambda package: None if package == "aiortc" else object()) == {
        name: "aiortc" if package == "aiortc" else None for name, (_, package) in PEERS.items()
    }
    assert list(available_peers().values()).count(None) >= 2


def test_the_naive_peer_follows_a_rollover_both_ways() -> None:
    talker = Talker(Keys(SrtpProfile(PROFILES[0]), bytes(30)), [])
    sequences = (0xFFFE, 0, 0xFFFF, 1)
    assert [talker.rollover_of(bytes((0x80, 96)) + n.to_bytes(2, "big")) for n in sequences] == [0, 1, 0, 1]


@pytest.mark.parametrize("profile", [PROFILES[1], PROFILES[3]])
@pytest.mark.parametrize("name", HERE)
async def test_every_peer_relays_to_each_listener_what_libsrtp_opens(name: str, profile: str) -> None:
    scenario = MediaScenario(profile, 160, 3)
    with trio.fail_after(60):
        async with running_peer(name, scenario, EVERYWHERE) as system:
            check(system, scenario)


async def test_a_peer_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "trio-naive", ("benchmarks.peers", "pylibsrtp"))
    with trio.fail_after(60), pytest.raises(ExceptionGroup) as caught:
        async with running_peer("trio-naive", MediaScenario(PROFILES[0], 160, 3), EVERYWHERE):
            pytest.fail("it has no program to run")
    assert str(first_of(caught.value)) == "trio-naive did not begin to listen"


async def test_livechat_is_under_the_same_load(tmp_path: Path) -> None:
    scenario = MediaScenario(PROFILES[0], 160, 3)
    told: list[Progress] = []
    with trio.fail_after(60):
        async with running_livechat(scenario, tmp_path / "data", EVERYWHERE, told.append) as server:
            check(server.system, scenario)
            pauses = server.gc_pauses()
            assert server.system.drops()["authentication"] == 0
    assert set(pauses) == {"0", "1", "2"}
    assert {"connected", "joined"} == {doing for doing, _, _ in told}


def check(system: MediaSystem, scenario: MediaScenario) -> None:
    """Go through all that the benchmark does with a system, at rates that are no effort."""
    outbox = Outbox(packet_bytes(scenario.profile, scenario.payload_bytes), 5_000)
    assert warm_up(system, outbox)
    assert estimate_hz(system, outbox, 0.02) > 0
    outcome = probe(system, outbox, 500.0, 0.2)
    assert (outcome.sent, outcome.expected) == (100, 300)
    assert outcome.received <= outcome.expected
    assert outcome.relay_cpu_ns > 0
    assert 0 <= outcome.generator_busy <= 1
    half = latency(system, outbox, 500.0, 0.2)
    # Of the first four rooms of 32, every listener is sampled, as each is first, in the middle or last.
    assert half["samples"] + half["lost"] >= 36
    assert 0 < half["latency_from_send_us"]["min"] <= half["latency_us"]["max"]
    assert system.opened >= half["samples"]


def test_processors_are_given_out_and_time_on_them_is_known() -> None:
    assert two_cores([3, 5, 7]) == ({3}, {7})
    assert two_cores([0]) == ({0}, {0})
    before = process_cpu_ns(os.getpid())
    while process_cpu_ns(os.getpid()) < before + 1_000_000:
        pass
    assert waited_ns(os.getpid()) >= 0
    pin(os.getpid(), EVERYWHERE)
    assert os.sched_getaffinity(0) == EVERYWHERE


METRICS = """\
# HELP x_total of something
# TYPE x_total counter
x_total{reason="a"} 3.0
x_total{reason="b",kind="k"} 1e+03
y 2
"""


def test_metrics_are_parsed() -> None:
    samples = parse(METRICS)
    assert by_label(samples, "x_total", "reason") == {"a": 3.0, "b": 1000.0}
    assert samples["y", frozenset()] == 2.0
    assert by_label(samples, "y", "reason") == {}


def test_sockets_are_closed_with_their_system() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        scenario = MediaScenario(PROFILES[0], 160, 2)
        drain = make_drain(scenario)
        rooms = [RoomKeys(1, bytes(30), [bytes(30), bytes(30)])]
        system = MediaSystem("x", os.getpid(), relay.getsockname(), PROFILES[0], 160, rooms, drain, dict)
        outbox = Outbox(182, 10)
        assert system.prepare(outbox, 3) == 0
        assert system.prepare(outbox, 3) == 3
        system.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            drain.take()
