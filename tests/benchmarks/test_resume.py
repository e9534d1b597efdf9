"""The benchmark runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
FIGURES = {"p50", "p99", "p99.9", "mean", "min", "max"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.resume", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_a_quick_run_writes_the_documented_json(tmp_path: Path) -> None:
    file = tmp_path / "results" / "resume.json"
    done = run("--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    assert {name: written[name] for name in ("format", "benchmark")} == {"format": 1, "benchmark": "resume"}
    resume, ready = written["rows"]
    assert (resume["what"], resume["count"], resume["beside"]) == ("resume", 20, "history")
    assert (ready["what"], ready["count"], ready["beside"]) == ("ready", 10, "channel_info")
    for row in (resume, ready):
        assert set(row) == {"what", "count", "rounds", "bytes", "us", "beside", "beside_us", "ratio"}
        assert row["rounds"] == 3
        assert row["bytes"] > row["count"] * written["content_chars"]
        assert set(row["us"]) == set(row["beside_us"]) == FIGURES
    for line in ("resume", "ready", f"written to {file}"):
        assert line in done.stdout


def test_nonsense_on_the_command_line_is_refused() -> None:
    for arguments in (("--rounds", "0"), ("--missed", "0"), ("--channels", "many")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
