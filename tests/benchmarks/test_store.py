"""The benchmark runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 180.0
FIGURES = {"p50", "p99", "p99.9", "mean", "min", "max"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.store", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_a_quick_run_writes_the_documented_json(tmp_path: Path) -> None:
    file = tmp_path / "results" / "store.json"
    done = run("--quick", "--senders", "3", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert {name: written[name] for name in ("format", "benchmark")} == {"format": 1, "benchmark": "store"}
    rows = {row["store"]: row for row in written["rows"]}
    assert list(rows) == ["sqlite-full", "sqlite-normal", "postgres", "memory"]
    ways = {name: [way["connections"] for way in row["one_by_one"]] for name, row in rows.items()}
    assert ways == {"sqlite-full": [1], "sqlite-normal": [1], "postgres": [1, 20], "memory": []}
    for row in rows.values():
        assert row["senders"] == 3
        for measured in (row["group"], *row["one_by_one"]):
            assert measured["messages_per_s"] > 0
            assert set(measured["latency_us"]) == FIGURES
    for line in ("sqlite-full", "one by one, 20 connections", f"written to {file}"):
        assert line in done.stdout


def test_nonsense_on_the_command_line_is_refused() -> None:
    for arguments in (("--only", "mysql"), ("--senders", "0"), ("--seconds", "-1")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
