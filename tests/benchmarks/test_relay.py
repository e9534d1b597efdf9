"""The benchmark of the relay runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks import relay
from benchmarks.support import relay_report, svg
from benchmarks.support.media_beside import GOAL_MS, ROUNDS
from benchmarks.support.media_start import PEERS, MediaScenario
from benchmarks.support.scenario import PROFILES

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0
FIGURES = {"p50", "p99", "p99.9", "mean", "min", "max"}
SATURATION = {"rate_hz", "legs_per_s", "cpu_us_per_leg", "relay_cores", "generator_busy", "send_lateness_p99_us"}
HALF = {"rate_hz", "samples", "lost", "latency_us", "latency_from_send_us", "cpu_us_per_leg", "relay_cores"}
HALF |= {"generator_busy", "send_lateness_p99_us", "disturbed", "drops"}
TRIAL = {"rate_hz", "sent", "expected", "received", "lag_ms", "drops", "failure", "disturbed"}
FAILURES = {None, "lost", "duplicated", "dropped", "queued", "generator"}


def check(system: dict[str, Any], fan_out: int) -> None:
    assert {"system", "saturation", "half", "samples_opened", "trials"} <= set(system)
    assert system["samples_opened"] > 0
    held = []
    for trial in system["trials"]:
        assert set(trial) == TRIAL
        assert trial["failure"] in FAILURES
        assert trial["expected"] == trial["sent"] * fan_out
        if trial["failure"] is None:
            assert trial["received"] == trial["expected"]
            assert trial["drops"] == {}
            held.append(trial["rate_hz"])
    if system["saturation"] is None:
        assert held == []
        assert system["half"] is None
        return
    saturation = system["saturation"]
    assert set(saturation) == SATURATION
    assert saturation["rate_hz"] == max(held)
    assert saturation["legs_per_s"] == pytest.approx(saturation["rate_hz"] * fan_out, rel=0.01)
    assert saturation["cpu_us_per_leg"] > 0
    if system["half"] is not None:
        assert set(system["half"]) == HALF
        assert set(system["half"]["latency_us"]) == FIGURES
        assert system["half"]["rate_hz"] == pytest.approx(saturation["rate_hz"] / 2, rel=0.01)


async def test_a_quick_run_accounts_for_everything_and_writes_the_documented_files(tmp_path: Path) -> None:
    file, plot = tmp_path / "results" / "relay.json", tmp_path / "plots" / "relay.svg"
    command = [sys.executable, "-m", "benchmarks.relay", "--quick", "--seconds", "0.05"]
    command += ["--systems", "livechat,asyncio-pylibsrtp", "--json", str(file), "--svg", str(plot)]
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    stated = {name: written[name] for name in ("format", "benchmark", "seconds", "lacking")}
    assert stated == {"format": 1, "benchmark": "relay", "seconds": 0.05, "lacking": {}}
    assert written["machine"]["cpu_count"] == os.cpu_count()
    [row] = written["scenarios"]
    assert (row["profile"], row["payload_bytes"], row["fan_out"]) == (PROFILES[0], 160, 3)
    assert set(row["gc_pauses"]) == {"0", "1", "2"}
    assert [system["system"] for system in row["systems"]] == ["livechat", "asyncio-pylibsrtp"]
    for system in row["systems"]:
        check(system, 3)
    assert [beside["store"] for beside in written["beside_gateway"]] == list(relay.STORES)
    for beside in written["beside_gateway"]:
        check(beside["relay"], 50)
        assert len(beside["rounds"]["without"]) == ROUNDS
        assert all(chat["lost"] == 0 for chats in beside["rounds"].values() for chat in chats)
        assert beside["goal_ms"] == GOAL_MS
    output = done.stdout.decode()
    for text in ("asyncio-pylibsrtp", "generator", str(file), str(plot)):
        assert text in output
    assert ElementTree.fromstring(plot.read_text()).tag.endswith("svg")


def test_the_options_choose_the_scenarios() -> None:
    line = f"--profiles {PROFILES[2]} --sizes 160,1200 --fan-outs 2,10 --systems livechat"
    options = relay.parse_arguments(line.split())
    assert relay.scenarios(options) == [
        MediaScenario(PROFILES[2], size, fan_out) for size in (160, 1200) for fan_out in (2, 10)
    ]
    assert options.systems == ["livechat"]
    assert options.with_beside


def test_a_full_run_has_every_profile_size_and_fan_out() -> None:
    everything = relay.scenarios(relay.parse_arguments(["--full"]))
    assert len(everything) == len(set(everything)) == 4 * 2 * 4
    usual = relay.scenarios(relay.parse_arguments([]))
    assert {scenario.fan_out for scenario in usual} == {2, 10, 50, 200}
    assert {scenario.profile for scenario in usual} == set(relay.DEFAULT_PROFILES)


def test_chat_beside_voice_can_be_all() -> None:
    options = relay.parse_arguments(["--beside-gateway"])
    assert relay.scenarios(options) == []
    assert options.with_beside


def test_small_fan_outs_have_many_talkers() -> None:
    assert [MediaScenario(PROFILES[0], 160, n).rooms for n in (1, 2, 3, 10, 50, 200, 500)] == [
        *(32, 32, 32, 16, 4, 2, 2)
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        *("--fan-outs 0", "--fan-outs 501", "--fan-outs x", "--sizes 15", "--sizes 1401", "--seconds 0.01"),
        *("--profiles NULL", "--systems janus"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        relay.parse_arguments(arguments.split())
    assert caught.value.code == 2


def result(system: str, legs_per_s: int | None, **change: Any) -> dict[str, Any]:
    """Return a result as `compare` makes it."""
    summary = dict.fromkeys(FIGURES, 100.0)
    saturation = dict.fromkeys(SATURATION, 0.5) | {"legs_per_s": legs_per_s}
    half = dict.fromkeys(HALF, 0.5) | {"latency_us": summary, "lost": 0, "disturbed": False, "drops": {}}
    known = legs_per_s is not None
    made = {"system": system, "saturation": saturation if known else None, "half": half if known else None}
    return made | {"samples_opened": 1, "trials": []} | change


def results(*systems: dict[str, Any], **change: Any) -> dict[str, Any]:
    """Return a document as `document` makes it."""
    row = {"profile": "P", "payload_bytes": 160, "fan_out": 2, "rooms": 32, "gc_pauses": {}}
    machine = {"cpu_model": None, "python": "3", "python_implementation": "C", "livechat": "0"}
    made = {"scenarios": [row | {"systems": relay_report.with_ratios(systems)}], "machine": machine}
    made |= {"started_at": "now", "processors": {"relay": [0], "generator": [1]}, "lacking": {}}
    return made | {"beside_gateway": []} | change


def test_ratios_are_to_livechat() -> None:
    made = relay_report.with_ratios([result("livechat", 300), result("a", 100), result("b", None)])
    assert [system["ratio"] for system in made] == [1.0, 3.0, None]
    assert relay_report.with_ratios([result("a", 100)])[0]["ratio"] is None


def test_the_table_and_the_plot_show_ratios_and_gaps() -> None:
    document = results(result("livechat", 300_000), result("a", 100_000), result("b", None))
    lines = list(relay_report.lines(document["scenarios"][0]))
    assert {len(line) for line in lines} == {len(relay_report.HEADINGS)}
    assert [line[4:6] for line in lines] == [["300.0", ""], ["100.0", "x 3.00"], ["-", "-"]]
    drawn = svg.draw(**relay_report.plot(document))
    for text in ("livechat", "300k", "100k", "x 3.0", "n/a", "fan-out 2", "P, 160 bytes"):
        assert text in drawn


def test_the_table_for_a_readme_has_a_line_a_scenario() -> None:
    document = results(result("livechat", 300_000), result("a", 100_000), result("b", None))
    lines = relay_report.markdown(document).splitlines()
    assert lines[0] == "| profile | bytes | fan-out | livechat | a | b | us CPU/leg | p50 / p99 at half, ms |"
    assert lines[2:] == ["| P | 160 | 2 | **300** | 100 (x 3.0) | - | 0.50 | 0.10 / 0.10 |"]
    assert {line.count("|") for line in lines} == {9}


TRIALS = [
    {"drops": {"drain": 1}, "failure": "generator", "disturbed": True},
    {"drops": {}, "failure": None, "disturbed": False},
]


@pytest.mark.parametrize(
    ("document", "remark"),
    [
        (results(result("livechat", 1), processors={"relay": [0], "generator": [0]}), "shared one processor"),
        (results(result("livechat", 1)), "relays on processor 0, generator on 1"),
        (results(result("livechat", 1, trials=TRIALS)), "of 2 trials the generator's sockets lost packets in 1"),
        (results(result("livechat", 1, trials=TRIALS)), "other programs held the processors in 1 of 2"),
        (results(result("livechat", None)), "livechat: no rate held"),
        (results(result("livechat", 1), lacking={"aiortc": "aiortc"}), "aiortc was left out"),
        (
            results(result("livechat", 1, saturation=dict.fromkeys(SATURATION, 0.9))),
            "generator had little time to spare",
        ),
        (results(result("a", 1, half={"lost": 3, "disturbed": True})), "lost at half"),
        (results(result("a", 1, half={"lost": 3, "disturbed": True})), "in the way while latency"),
    ],
)
def test_what_disturbs_is_remarked(document: dict[str, Any], remark: str) -> None:
    assert any(remark in line for line in relay_report.remarks(document))


def test_what_voice_does_to_chat_is_said_in_a_line() -> None:
    beside = {"store": "memory", "relay": result("livechat", 300_000), "p99_added_ms": 0.5, "p99_with_ms": 1.5}
    beside |= {"p99_without_ms": 1.0, "goal_ms": 2.0, "chat_rate_hz": 100.0, "chat_fan_out": 20}
    [line] = relay_report.beside_lines(beside)
    assert "store: memory" in line
    assert "1.00 ms without voice, 1.50 ms beside 300k legs/s: +0.50 ms" in line
    [unknown] = relay_report.beside_lines(beside | {"p99_added_ms": None})
    assert "not known" in unknown


def test_pauses_are_of_the_time_between() -> None:
    before = {"0": {"count": 1.0, "sum_s": 0.5}}
    after = {"0": {"count": 3.0, "sum_s": 0.75}}
    assert relay_report.pauses_between(before, after) == {"0": {"count": 2.0, "sum_s": 0.25}}


def test_what_the_collector_took_is_said() -> None:
    document = results(result("livechat", 1))
    assert not any("garbage" in line for line in relay_report.remarks(document))
    document["scenarios"][0]["gc_pauses"] = {
        "0": {"count": 3.0, "sum_s": 0.002},
        "2": {"count": 1.0, "sum_s": 0.01},
    }
    assert "livechat's garbage collector made 4 pauses, 12.0 ms in all" in relay_report.remarks(document)


def test_every_peer_can_be_named() -> None:
    options = relay.parse_arguments(["--systems", ",".join(PEERS)])
    assert sorted([*options.systems, *options.lacking]) == sorted(PEERS)
    assert not options.with_beside
