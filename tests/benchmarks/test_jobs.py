"""The benchmark runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.jobs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_a_quick_run_writes_the_documented_json(tmp_path: Path) -> None:
    file = tmp_path / "results" / "jobs.json"
    done = run("--quick", "--pause-ms", "0", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert {name: written[name] for name in ("format", "benchmark", "store_url")} == {
        "format": 1,
        "benchmark": "jobs",
        "store_url": None,
    }
    assert [(row["what"], row["rounds"]) for row in written["rows"]] == [("new", 20), ("again", 20)]
    for row in written["rows"]:
        assert set(row["us"]) == {"p50", "p99", "p99.9", "mean", "min", "max"}
    for line in ("POST /jobs, ms", "new jobs: p99", f"written to {file}"):
        assert line in done.stdout


def test_nonsense_on_the_command_line_is_refused() -> None:
    for arguments in (("--rounds", "0"), ("--rounds", "many"), ("--pause-ms", "-1")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
