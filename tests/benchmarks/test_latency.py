"""The benchmark runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks import latency
from benchmarks.support.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
LATENCIES = ("latency_us", "latency_from_send_us", "send_lateness_us")
FIGURES = {"p50", "p99", "p99.9", "mean", "min", "max"}
COMMON = {"kind", "rate_hz", "fan_out", "seconds", "profile", *LATENCIES}
COMMON |= {"sent", "expected", "received", "lost", "duplicates", "rate_achieved_hz"}
COMMON |= {"client_late", "cpu_cores"}
OWN = {
    "chat": {"channels", "content_chars", "all_committed", "refused", "refused_because"},
    "voice": {"payload_bytes", "samples_opened"},
}


def check(row: dict[str, Any], *, sent: int, fan_out: int) -> None:
    assert set(row) == COMMON | OWN[row["kind"]]
    assert row["sent"] == sent
    assert row["received"] == row["expected"] == sent * fan_out
    assert row["lost"] == row["duplicates"] == 0
    assert row["rate_achieved_hz"] > 0
    assert set(row["cpu_cores"]) == {"server", "client", "others"}
    for name in LATENCIES:
        assert set(row[name]) == FIGURES
        assert row[name]["min"] <= row[name]["p50"] <= row[name]["p99"] <= row[name]["max"]
    assert row["send_lateness_us"]["min"] >= 0
    assert row["latency_us"]["mean"] >= row["latency_from_send_us"]["mean"] > 0


async def test_a_quick_run_receives_everything_and_writes_the_documented_json(tmp_path: Path) -> None:
    file = tmp_path / "results" / "latency.json"
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            [sys.executable, "-m", "benchmarks.latency", "--quick", "--json", str(file)],
            cwd=ROOT,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert {name: written[name] for name in ("format", "benchmark")} == {"format": 1, "benchmark": "latency"}
    assert written["machine"]["cpu_count"] == os.cpu_count()
    assert written["machine"]["python"]
    chat, voice = written["scenarios"]
    check(chat, sent=50, fan_out=3)
    assert chat["all_committed"] is True
    assert chat["refused"] == 0
    check(voice, sent=50, fan_out=3)
    assert voice["profile"] == "AES_CM_128_HMAC_SHA1_80"
    assert voice["samples_opened"] >= 3
    table = done.stdout.decode()
    assert "p99.9" in table
    assert str(file) in table
    assert b"2/2 voice" in done.stderr


def test_the_options_choose_the_scenarios() -> None:
    line = "--only voice --rates 50,12.5 --fan-outs 2,10 --seconds 3 --profile AEAD_AES_256_GCM"
    options = latency.parse_arguments(line.split())
    assert latency.scenarios(options) == [
        Scenario("voice", rate, fan_out, 3.0, "AEAD_AES_256_GCM") for fan_out in (2, 10) for rate in (50.0, 12.5)
    ]
    everything = latency.scenarios(latency.parse_arguments([]))
    assert {scenario.kind for scenario in everything} == {"chat", "voice"}
    assert {scenario.seconds for scenario in everything} == {latency.SECONDS}


@pytest.mark.parametrize("arguments", ["--rates 0", "--rates x", "--fan-outs 1.5", "--seconds -1", "--only video"])
def test_what_cannot_be_measured_is_refused(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        latency.parse_arguments(arguments.split())
    assert caught.value.code == 2
