"""The benchmark runs and reports what it says it reports. Nothing here looks at how fast it was."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import trio

from benchmarks import speakers

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0
ROW = {"row", "max_speakers", "rate_hz", "packets", "expected", "received", "of_silent", "samples_opened"}
ROW |= {"cpu_cores", "server_cpu_s", "cpu_us_per_packet"}


async def test_a_quick_run_forwards_all_or_only_the_speakers_and_writes_the_documented_json(
    tmp_path: Path,
) -> None:
    file = tmp_path / "results" / "speakers.json"
    line = f"--quick --members 6 --speakers 2 --rate 20 --seconds 0.5 --json {file}"
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            [sys.executable, "-m", "benchmarks.speakers", *line.split()],
            cwd=ROOT,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    written = json.loads(file.read_text())
    stated = {"format": 1, "benchmark": "speakers", "members": 6, "speakers": 2, "seconds": 0.5}
    assert {name: written[name] for name in stated} == stated
    assert written["machine"]["cpu_count"] == os.cpu_count()
    everybody, loudest = written["rows"]
    for row in written["rows"]:
        assert set(row) == ROW
        assert row["received"] <= row["expected"]
        assert set(row["cpu_cores"]) == {"server", "client", "others"}
    assert (everybody["row"], everybody["max_speakers"]) == ("all", None)
    assert everybody["packets"] == 60
    assert everybody["received"] == everybody["expected"] == 60 * 5
    assert everybody["of_silent"] == 40 * 5
    assert everybody["samples_opened"] == 6
    assert (loudest["row"], loudest["max_speakers"], loudest["packets"]) == ("loudest", 2, 60)
    assert loudest["received"] == loudest["expected"] == 20 * 5
    assert loudest["of_silent"] == 0
    assert set(written["saved"]) == {"loudest", "real time"}
    table = done.stdout.decode()
    assert "of the silent" in table
    assert str(file) in table
    assert b"2/2 loudest" in done.stderr


def test_what_is_saved_is_told_for_each_packet() -> None:
    rows = [{"row": "all", "cpu_us_per_packet": 200.0}, {"row": "loudest", "cpu_us_per_packet": 10.0}]
    assert speakers.saved(rows, "loudest") == 0.95
    assert speakers.saved(rows, "real time") is None
    assert speakers.saved(rows[1:], "loudest") is None


def test_what_makes_figures_doubtful_is_said() -> None:
    calm = {"row": "all", "expected": 1000, "received": 995, "cpu_cores": {"others": 0.1}}
    assert speakers.remarks([calm]) == []
    (lost,) = speakers.remarks([calm, calm | {"row": "real time", "received": 900}])
    assert lost.startswith("! real time: packets were lost")
    (busy,) = speakers.remarks([calm | {"cpu_cores": {"others": 1.0}}])
    assert "other programs" in busy


def test_the_options_have_defaults_of_a_large_and_of_a_small_meeting() -> None:
    large, small = speakers.parse_arguments([]), speakers.parse_arguments(["--quick", "--rate", "5"])
    assert (large.members, large.speakers, large.seconds) == (200, 3, 10)
    assert (small.members, small.speakers, small.rate, small.seconds) == (20, 2, 5, 1)
    assert speakers.planned(large) == [("all", None, 4), ("loudest", 3, 4), ("real time", 3, 50)]
    assert speakers.planned(small) == [("all", None, 5), ("loudest", 2, 5)]


@pytest.mark.parametrize(
    "arguments", ["--members 1", "--members 2000", "--speakers 0", "--speakers 200", "--rate 0", "--seconds -1"]
)
def test_what_cannot_be_measured_is_refused(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        speakers.parse_arguments(arguments.split())
    assert caught.value.code == 2
