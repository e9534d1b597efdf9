"""The benchmark runs and accounts for everything. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import trio

from benchmarks import connections

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0
SMALL = (
    "--sizes 20,40 --connections 60 --room 20 --insiders 20 --newcomers 60 --offered 300 "
    "--tls-newcomers 30 --tls-offered 100 --never 3 --slow 4"
)
PHASE = {"phase", "seconds", "server_cpu_share"}
CHAT_PHASE = PHASE | {"sent", "expected", "received", "lost", "latency_us"}


async def run(*arguments: str) -> tuple[dict[str, Any], str]:
    """Run the benchmark; return what it wrote and what it printed."""
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            [sys.executable, "-m", "benchmarks.connections", "--quick", *arguments],
            cwd=ROOT,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    file = trio.Path(arguments[arguments.index("--json") + 1])
    return json.loads(await file.read_text()), done.stdout.decode()


def assert_all_arrived(phases: list[dict[str, Any]]) -> None:
    for phase in phases:
        assert set(phase) == CHAT_PHASE
        assert phase["lost"] == 0
        assert phase["received"] == phase["expected"] > 0
        assert phase["latency_us"]["min"] >= 0


async def test_a_small_run_accounts_for_everything_and_writes_the_documented_json(tmp_path: Path) -> None:
    file, drawn = tmp_path / "results" / "connections.json", tmp_path / "pictures" / "connections.svg"
    written, printed = await run(*SMALL.split(), "--seconds", "0.5", "--json", str(file), "--svg", str(drawn))
    assert {name: written[name] for name in ("format", "benchmark")} == {"format": 1, "benchmark": "connections"}
    memory, storm, tls, heartbeats, slow = written["parts"]
    assert [part["part"] for part in written["parts"]] == list(connections.PARTS)
    assert [part["refused"] for part in written["parts"]] == [0] * 5
    assert [row["connections"] for row in memory["rows"]] == [20, 40]
    assert all(row["rss_bytes"] > memory["base"]["rss_bytes"] / 2 for row in memory["rows"])

    for part, newcomers in ((storm, 60), (tls, 30)):
        ended = part["came_in"], part["ended"], part["still_waiting"]
        assert (part["newcomers"], *ended) == (newcomers, newcomers, {}, 0)
        assert part["disorder"] == 0
        assert_all_arrived(part["chat"])
        assert [phase["phase"] for phase in part["chat"]] == ["before", "during", "after"]

    assert (heartbeats["connections"], heartbeats["ended"]) == (60, {})
    assert heartbeats["answered"] == heartbeats["sent"] > 0
    assert [set(phase) for phase in heartbeats["phases"]] == [PHASE] * 2

    for part in written["parts"]:
        pauses = part["server"]["gc_pauses"]
        assert (pauses["count"] == 0) == (pauses["total_ms"] == 0) == (pauses["longest_ms"] == 0)
        assert part["server"]["egress_limit_bytes"] > part["server"]["egress_held_bytes"] >= 0

    assert {group["group"]: sum(group["ends"].values()) for group in slow["stalled"]} == {
        "never": 3,
        "1 KB/s, loud room": 2,
        "1 KB/s, quiet room": 2,
    }
    # Those that can't keep up are closed as slow consumers; those that can stay, and so do all others.
    assert slow["closed_by_server"] == {"4001": 5}
    assert slow["stalled"][2]["ends"] == {"kept": 2}
    assert (slow["others_ended"], slow["disorder"]) == (0, 0)
    assert_all_arrived(slow["phases"])
    assert ElementTree.parse(drawn).getroot().tag.endswith("svg")
    assert "5 by 4001" in printed
    assert str(file) in printed


def test_the_options_choose_the_parts_and_sizes(tmp_path: Path) -> None:
    options = connections.parse_arguments(
        [
            "--parts",
            "storm,memory",
            "--sizes",
            "500,100",
            "--offered",
            "4000",
            "--set",
            "GATEWAY_ENTRIES_AT_ONCE=8",
        ]
    )
    assert options.parts == ["storm", "memory"]
    assert options.sizes == [100, 500]
    assert connections.assignment(options, "storm")["offered_hz"] == 4000
    assert connections.settings(options, "storm", tmp_path) == {
        "STORE_URL": "memory:",
        "GATEWAY_ENTRIES_AT_ONCE": "8",
    }


@pytest.mark.parametrize("line", ["--parts all", "--room 0", "--set x", "--never -1", "--sizes 0"])
def test_what_makes_no_sense_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        connections.parse_arguments(line.split())
    assert "expected" in capsys.readouterr().err
