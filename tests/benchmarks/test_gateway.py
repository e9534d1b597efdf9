"""The benchmark of the gateway runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import trio

from benchmarks import gateway
from benchmarks.support import gateway_report, svg
from benchmarks.support.gateway_parts import PARTS, ROOM_MEMBERS, ROOMS, VIEWERS, cases
from benchmarks.support.gateway_systems import BARE, DURABLE, OWN, SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0
SYSTEM = {"system", "connect_s", "failure", "rounds", "best", "spread", "limited_by_client", "ratio", "cpu_ratio"}
SYSTEM |= {"of_ceiling"}
ROUND = {"count", "seconds", "per_s", "server_us", "server_busy", "client_busy", "server_waited", "client_waited"}
ROUND |= {"client_ceiling_per_s"}
SAID = {"bytes_each", "messages", "last_us", "first_us"}
FIGURES = {"p50", "p99", "p99.9", "mean", "min", "max"}


def check(system: dict[str, Any], part: str, rounds: int) -> None:
    assert set(system) == SYSTEM
    assert system["failure"] is None
    assert len(system["rounds"]) == rounds
    for result in system["rounds"]:
        assert set(result) == (ROUND if part == "inbound" else ROUND | SAID)
        # On a busy machine a stretch may pass without a delivery; afterwards all have come, or it had failed.
        assert result["count"] >= 0
        assert result["per_s"] <= system["best"]["per_s"]
        if part != "inbound":
            assert result["messages"] >= 0
            assert set(result["last_us"]) == set(result["first_us"]) == FIGURES
            assert result["first_us"]["min"] <= result["last_us"]["min"]


async def test_a_small_run_accounts_for_everything_and_writes_the_documented_files(tmp_path: Path) -> None:
    file, plot = tmp_path / "results" / "gateway.json", tmp_path / "plots" / "gateway.svg"
    command = [sys.executable, "-m", "benchmarks.gateway", "--systems", "livechat,websockets,trio-websocket"]
    command += ["--parts", "fan-out,inbound", "--fan-outs", "3", "--windows", "1,4", "--seconds", "0.05"]
    command += ["--rounds", "2", "--markdown", "--json", str(file), "--svg", str(plot)]
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    stated = {name: written[name] for name in ("format", "benchmark", "seconds", "lacking")}
    assert stated == {"format": 1, "benchmark": "gateway", "seconds": 0.05, "lacking": {}}
    assert written["machine"]["cpu_count"] == os.cpu_count()
    told = [(row["part"], row["rooms"], row["members"], row["trial"]) for row in written["rows"]]
    asked = [
        ("inbound", connections, 1, kind)
        for connections in (1, 50)
        for kind in ("HEARTBEAT", "TYPING", "MESSAGE_CREATE")
    ]
    assert told == [("fan-out", 1, 3, "w=1"), ("fan-out", 1, 3, "w=4"), *asked]
    for row in written["rows"]:
        peers = ["trio-websocket"] if row["part"] == "inbound" else ["websockets", "trio-websocket"]
        assert [system["system"] for system in row["systems"]] == [OWN, *peers]
        for system in row["systems"]:
            check(system, row["part"], 2)
    assert {goal["peer"] for goal in written["goals"]} == {"websockets", "trio-websocket"}
    output = done.stdout.decode()
    for text in (
        "trio-websocket",
        "| to 3, w=4 |",
        "requests of 50",
        "servers on processor",
        str(file),
        str(plot),
    ):
        assert text in output
    assert ElementTree.fromstring(plot.read_text()).tag.endswith("svg")


def test_the_options_choose_the_cases() -> None:
    line = "--parts fan-out,rooms --fan-outs 10,100 --windows 1,16 --systems livechat,ws --seconds 1"
    options = gateway.parse_arguments(line.split())
    made = cases(options.parts, options.fan_outs, options.windows, options.seconds)
    assert [(case.part, case.rooms, case.members) for case in made] == [
        *(("fan-out", 1, 10), ("fan-out", 1, 100), ("rooms", ROOMS, ROOM_MEMBERS))
    ]
    assert made[0].trials == [
        ("w=1", {"window": 1, "seconds": 1.0}),
        ("w=16", {"window": 16, "seconds": 1.0}),
    ]
    assert options.systems == ["livechat", "ws"]


def test_a_full_run_has_every_part_and_system() -> None:
    options = gateway.parse_arguments([])
    made = cases(options.parts, options.fan_outs, options.windows, options.seconds)
    assert {case.part for case in made} == set(PARTS)
    assert [case.members for case in made if case.part == "fan-out"] == [10, 100, 1000, 5000]
    assert next(case.members for case in made if case.part == "chunks") == 1 + VIEWERS
    assert options.systems == list(SYSTEMS)
    assert options.rounds > 1


@pytest.mark.parametrize(
    "arguments",
    [
        *("--fan-outs 1", "--fan-outs 9001", "--fan-outs x", "--windows 0", "--windows 257", "--seconds 0.01"),
        *("--parts voice", "--systems centrifugo", "--rounds 101", "--rounds -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        gateway.parse_arguments(arguments.split())
    assert caught.value.code == 2


def outcome(per_s: int, **change: Any) -> dict[str, Any]:
    """Return what a client reports of a round."""
    summary = dict.fromkeys(FIGURES, 1500.0)
    made = dict.fromkeys(ROUND, 0.5) | {"per_s": per_s, "server_us": 1e6 / per_s, "client_waited": 0.0}
    return made | {"messages": 1, "last_us": summary, "first_us": summary} | change


def system(name: str, *rounds: dict[str, Any], failure: str | None = None) -> dict[str, Any]:
    """Return a system of a row as `measure` makes it."""
    return {"system": name, "connect_s": 0.1, "failure": failure, "rounds": list(rounds)}


def row(*systems: dict[str, Any], **change: Any) -> dict[str, Any]:
    """Return an evaluated row."""
    made = {"part": "fan-out", "rooms": 1, "members": 100, "trial": "w=1", "systems": list(systems)}
    return gateway_report.evaluated(made | change)


def results(*rows: dict[str, Any], **change: Any) -> dict[str, Any]:
    """Return a document as `document` makes it."""
    machine = {"cpu_model": None, "python": "3", "python_implementation": "C", "livechat": "0"}
    made = {"rows": list(rows), "machine": machine, "started_at": "now", "lacking": {}}
    return made | {"processors": {"server": [0], "client": [1]}} | change


def test_the_best_round_counts_and_ratios_are_to_livechat() -> None:
    made = row(system(OWN, outcome(200_000), outcome(300_000)), system("ws", outcome(150_000)), system("nats"))
    own, ws, nats = made["systems"]
    assert own["best"]["per_s"] == 300_000
    assert own["spread"] == pytest.approx(0.333)
    assert (own["ratio"], ws["ratio"], nats["ratio"]) == (1.0, 2.0, None)
    assert ws["cpu_ratio"] == 2.0
    assert nats["best"] is None
    assert row(system("ws", outcome(1)))["systems"][0]["ratio"] is None


def test_who_was_busier_is_what_was_measured() -> None:
    bound = outcome(1, client_busy=0.8, server_busy=0.7)
    made = row(system(OWN, bound), system("ws", outcome(1, client_busy=0.7, server_busy=0.8)))
    assert [entry["limited_by_client"] for entry in made["systems"]] == [True, False]
    assert next(gateway_report.lines(made))[3].endswith("!")
    assert any("client was busier" in remark for remark in gateway_report.remarks(results(made)))


def test_tables_and_plot_show_ratios_and_gaps() -> None:
    made = row(system(OWN, outcome(300_000)), system("ws", outcome(150_000)), system("nats"))
    lines = list(gateway_report.lines(made))
    assert {len(line) for line in lines} == {len(gateway_report.HEADINGS)}
    assert [line[2:5] for line in lines] == [[OWN, "300.0", ""], ["ws", "150.0", "x 2.00"], ["nats", "-", "-"]]
    table = gateway_report.markdown([made]).splitlines()
    assert table[-1] == "| to 100, w=1 | **300** | 150 (x 2.00) | - | 1.50 / 1.50 |"
    assert {line.count("|") for line in table if line} == {6}
    drawn = svg.draw(**gateway_report.plot(results(made)))
    for text in (OWN, "300k", "150k", "x 2.0", "n/a", "to 100", "fan-out, w=1"):
        assert text in drawn


def test_goals_are_told_from_what_was_measured() -> None:
    small = row(system(OWN, outcome(130)), system("ws", outcome(100)), members=10)
    large = row(system(OWN, outcome(110)), system("ws", outcome(100)), system(DURABLE, outcome(90)), members=100)
    told = gateway_report.goals([small, large])
    assert [(goal["system"], goal["peer"], goal["reached"]) for goal in told] == [
        (OWN, "ws", {"to 10": 1.3, "to 100": 1.1}),
        (DURABLE, "ws", {"to 100": 0.9}),
    ]
    first, second = gateway_report.goal_lines(told)
    assert first == "MISSED   livechat >= 1.2 x ws, fan-out w=1: x 1.30 to 10, x 1.10 to 100"
    assert second.startswith("MISSED")
    [reached] = gateway_report.goal_lines(gateway_report.goals([small]))
    assert reached.startswith("reached")


def test_how_far_it_is_to_the_ceiling_and_which_goals_lie_beyond_it_is_told() -> None:
    made = row(system(OWN, outcome(90_000)), system("ws", outcome(100_000)), system(BARE, outcome(110_000)))
    assert [entry["of_ceiling"] for entry in made["systems"]] == [0.82, 0.91, 1.0]
    assert [line[5] for line in gateway_report.lines(made)] == ["82%", "91%", "100%"]
    assert gateway_report.markdown([made]).splitlines()[-1].endswith("| 100 (x 0.90) | 110 | 1.50 / 1.50 |")
    assert any("one send per delivery" in remark for remark in gateway_report.remarks(results(made)))
    [goal] = gateway_report.goals([made])
    assert (goal["peer"], goal["beyond"]) == ("ws", {"to 100": 1.1})
    [line] = gateway_report.goal_lines([goal])
    assert line == "beyond   livechat >= 1.2 x ws, fan-out w=1: x 0.90 to 100 (bare sends: x 1.10)"


def test_a_goal_within_the_ceiling_is_missed_and_where_messages_are_joined_there_is_none() -> None:
    beyond = row(system(OWN, outcome(90)), system("ws", outcome(100)), system(BARE, outcome(110)))
    within = row(system(OWN, outcome(90)), system("ws", outcome(100)), system(BARE, outcome(150)), members=10)
    [goal] = gateway_report.goals([beyond, within])
    assert goal["beyond"] == {"to 100": 1.1}
    [line] = gateway_report.goal_lines([goal])
    assert line.startswith("MISSED")
    joined = row(*(system(name, outcome(90)) for name in (OWN, "ws", BARE)), trial="w=16")
    assert [entry["of_ceiling"] for entry in joined["systems"]] == [None] * 3
    [goal] = gateway_report.goals([joined])
    assert (goal["times"], goal["beyond"]) == (5.0, {})


VIEWED = {"viewers": 90, "closed": 0, "received": 900, "missing": 0, "gaps": 0, "gaps_not_ended_by_keyframe": 0}


def test_the_table_of_chunks_accounts_for_the_slow_ones() -> None:
    slow = VIEWED | {"viewers": 10, "received": 60, "missing": 40, "gaps": 7}
    summary = dict.fromkeys(FIGURES, 500.0)
    result = {"chunks": 10, "fast": VIEWED, "slow": slow, "latency_us": summary, "server_busy": 0.25}
    made = row(system(OWN, result), part="chunks", members=101, trial="ten read slowly")
    [line] = gateway_report.chunk_lines(made)
    assert line == [
        *("ten read slowly", "90", "900", "0", "0.50", "0.50", "10", "60", "40", "7", "0", "0", "0.25")
    ]
    assert len(line) == len(gateway_report.CHUNK_HEADINGS)


@pytest.mark.parametrize(
    ("document", "remark"),
    [
        (results(processors={"server": [0], "client": [0]}), "shared one processor"),
        (results(), "servers on processor 0, clients on 1"),
        (results(lacking={"ws": "node"}), "ws was left out: it needs node"),
        (results(row(system(OWN, outcome(1, client_waited=0.2)))), "other programs held"),
        (results(row(system("ws", failure="ws: lost"))), "ws, to 100, w=1: ws: lost"),
    ],
)
def test_what_must_be_known_is_remarked(document: dict[str, Any], remark: str) -> None:
    assert any(remark in line for line in gateway_report.remarks(document))
