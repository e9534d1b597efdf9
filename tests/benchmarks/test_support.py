"""What the figures rest on: percentiles, the account of losses, the clock, the frame parser."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from benchmarks.support.arrivals import Arrivals, Drain
from benchmarks.support.chat import message_frame, noting
from benchmarks.support.cpu import cpu_cores, cpu_times
from benchmarks.support.figures import percentile, summarize_us, table
from benchmarks.support.gateway import ConnectionLost, GatewayClient, frame
from benchmarks.support.load import _evaluate
from benchmarks.support.pacing import open_metronome
from benchmarks.support.prometheus import gc_pauses, parse


def test_a_percentile_is_a_measured_value_that_enough_do_not_exceed() -> None:
    assert [percentile(range(1, 101), share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert percentile([7], 0.999) == 7
    assert percentile([1, 2], 0.5) == 1


def test_a_summary_is_in_microseconds_and_there_is_none_of_nothing() -> None:
    summary = summarize_us([3_000, 1_000, 2_000])
    assert summary == {"p50": 2.0, "p99": 3.0, "p99.9": 3.0, "mean": 2.0, "min": 1.0, "max": 3.0}
    assert summarize_us([]) is None


def test_a_table_is_aligned() -> None:
    assert table(("a", "b"), [("long", "1")]) == "a     b\nlong  1"


def test_losses_and_doubles_are_counted_and_latency_counts_from_when_it_was_due() -> None:
    complete, lossy = Arrivals(), Arrivals()
    for index, now_ns in ((10, 2_000), (11, 9_000), (11, 9_500)):
        complete.note(index, now_ns)
    lossy.note(11, 8_000)
    # The second was due at 1000 and sent only at 5000: those who waited for it waited since 1000.
    result = _evaluate([complete, lossy], 10, 4, array("q", (0, 1_000)), array("q", (0, 5_000)))
    counts = {name: result[name] for name in ("sent", "expected", "received", "lost", "duplicates")}
    assert counts == {"sent": 2, "expected": 4, "received": 3, "lost": 1, "duplicates": 1}
    assert (result["latency_us"]["min"], result["latency_us"]["max"]) == (2.0, 8.0)
    assert result["latency_from_send_us"]["max"] == 4.0
    assert result["send_lateness_us"]["max"] == 4.0
    assert result["client_late"] is False


def test_it_is_known_who_was_busy() -> None:
    before = cpu_times(os.getpid())
    while time.process_time() < before.client_s + 0.2:
        pass
    cores = cpu_cores(before, cpu_times(os.getpid()))
    # Here the server and the client are one process.
    assert cores["server"] > 0
    assert cores["client"] > 0
    assert cores["others"] >= 0


async def test_the_metronome_never_wakes_early_and_lets_others_run() -> None:
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            ran += 1
            await trio.lowlevel.checkpoint()

    async with open_metronome() as metronome, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for delay_ns in (3_000_000, 1_000, 0, *[-1_000_000] * 10):
            due_ns = time.perf_counter_ns() + delay_ns
            await metronome.wait_until(due_ns)
            assert time.perf_counter_ns() >= due_ns
        # Also one that is always behind its time lets the others have their turns.
        assert ran > 10
        nursery.cancel_scope.cancel()


@contextmanager
def client_noting(arrivals: Arrivals) -> Iterator[GatewayClient]:
    drain = Drain()
    client = GatewayClient(drain, "u", noting(arrivals))
    try:
        yield client
    finally:
        client.close()
        drain.close()


def server_frame(payload: bytes, opcode: int = 1) -> bytes:
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    if len(payload) < 65_536:
        return bytes((0x80 | opcode, 126)) + len(payload).to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + len(payload).to_bytes(8, "big") + payload


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 100_000])
def test_frames_are_found_however_they_are_cut(step: int) -> None:
    event = b'{"op":101,"d":{"content":"benchmark-%010d%s"}}'
    numbers = {5: b"", 6: b"." * 200, 7: b"." * 70_000}
    stream = b"".join(server_frame(event % (number, padding)) for number, padding in numbers.items())
    arrivals = Arrivals()
    with client_noting(arrivals) as client:
        for start in range(0, len(stream), step):
            client._on_data(stream[start : start + step], start)
    assert list(arrivals.indexes) == [5, 6, 7]


def test_what_only_quotes_a_message_is_not_taken_for_its_arrival() -> None:
    arrivals = Arrivals()
    quoting = b'{"op":200,"d":{"op":16,"data":{"last_message":{"content":"benchmark-0000000005"}}},"id":1}'
    with client_noting(arrivals) as client:
        client._on_data(server_frame(quoting), 0)
    assert len(arrivals) == 0


def test_errors_and_closes_are_not_overlooked() -> None:
    with client_noting(Arrivals()) as client:
        client._on_data(server_frame(b'{"op":201,"d":{"code":1006,"reason":"rate limited"},"id":"m1"}'), 0)
        assert client.refused == ["1006 rate limited"]
        with pytest.raises(ConnectionLost, match="4001 slow"):
            client._on_data(server_frame((4001).to_bytes(2, "big") + b"slow", 8), 0)
        with pytest.raises(ConnectionLost, match="connection lost"):
            client._on_data(b"", 0)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_a_frame_of_ours_is_masked_and_whole(length: int) -> None:
    payload = bytes(number & 0xFF for number in range(length))
    made = frame(payload)
    assert made[0] == 0x81
    head = {126: 4, 127: 10}.get(made[1] & 0x7F, 2)
    assert made[1] & 0x80
    key, masked = made[head : head + 4], made[head + 4 :]
    assert bytes(byte ^ key[place % 4] for place, byte in enumerate(masked)) == payload


def test_a_message_is_padded_and_carries_its_number() -> None:
    made = message_frame("c", 42)
    key = made[4:8]
    text = bytes(byte ^ key[place % 4] for place, byte in enumerate(made[8:]))
    assert b'"content":"benchmark-0000000042.' in text


def pauses(generation: int, *counts: int, total_s: float) -> str:
    """Return how a server tells of the pauses of a generation, cumulated by bucket."""
    name, label = "livechat_gc_pause_seconds", f'generation="{generation}"'
    bounds = ("0.001", "0.005", "+Inf")
    lines = [f'{name}_bucket{{{label},le="{le}"}} {count}' for le, count in zip(bounds, counts, strict=True)]
    return "\n".join((*lines, f"{name}_count{{{label}}} {counts[-1]}", f"{name}_sum{{{label}}} {total_s}", ""))


def test_the_pauses_between_two_answers_of_a_server_are_counted() -> None:
    before = pauses(0, 5, 5, 5, total_s=0.004) + pauses(2, 0, 0, 3, total_s=1.0)
    after = pauses(0, 7, 8, 8, total_s=0.010) + pauses(2, 0, 0, 3, total_s=1.0)
    assert gc_pauses(parse(before), parse(after)) == {"count": 3, "total_ms": 6.0, "longest_ms": 5.0}
    assert gc_pauses(parse(after), parse(after)) == {"count": 0, "total_ms": 0.0, "longest_ms": 0.0}
    assert gc_pauses({}, parse(after))["longest_ms"] is None
