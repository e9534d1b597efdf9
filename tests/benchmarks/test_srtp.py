"""The benchmark of SRTP runs, each side opens what the other sealed, and the report is consistent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import srtp
from benchmarks.support.scenario import PROFILES

ROOT = Path(__file__).resolve().parents[2]


def test_a_quick_run_writes_the_documented_json(tmp_path: Path) -> None:
    file = tmp_path / "results" / "srtp.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.srtp", "--quick", "--fan-out", "5", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    stated = {name: written[name] for name in ("format", "benchmark", "fan_out")}
    assert stated == {"format": 1, "benchmark": "srtp", "fan_out": 5}
    assert (written["packets"], written["repeats"]) == (srtp.QUICK_PACKETS, srtp.QUICK_REPEATS)
    assert written["machine"]["python"]
    rows = written["rows"]
    assert [(row["profile"], row["payload_bytes"], row["operation"]) for row in rows] == [
        (profile, size, operation)
        for profile in PROFILES
        for size in srtp.SIZES
        for operation in ("protect", "unprotect", "fan-out")
    ]
    for row in rows:
        assert row["livechat_us"] > 0
        assert row["pylibsrtp_us"] > 0
        assert row["ratio"] == pytest.approx(row["pylibsrtp_us"] / row["livechat_us"], rel=0.05)
        assert " ".join(srtp.table_row(row)[:3]) in " ".join(done.stdout.split())
    assert str(file) in done.stdout


@pytest.mark.parametrize(
    "arguments",
    ["--profiles NULL", "--sizes 0", "--sizes x", "--sizes 1401", "--fan-out 0", "--packets -1", "--repeats 5000"],
)
def test_what_cannot_be_measured_is_refused(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        srtp.parse_arguments(arguments.split())
    assert caught.value.code == 2
