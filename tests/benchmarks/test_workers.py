from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio

from benchmarks import workers
from benchmarks.support.worker_load import ChannelLoad, Lost, open_sink
from benchmarks.workers import Round, Scenario, document, main, summarize
from livechat.media.making import make_hub
from livechat.media.opening import bind_media
from livechat.media.settings import DEFAULT_SPEAKING, MediaSettings
from livechat.media.workers.messages import Begin
from livechat.media.workers.plane import WorkerMediaPlane
from livechat.srtp.profile import SrtpProfile

GCM = SrtpProfile.AEAD_AES_128_GCM


def test_it_measures_real_workers_and_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deep" / "workers.json"
    arguments = ["--workers", "1,2", "--fan-outs", "3", "--profile", GCM.value, "--rounds", "1"]
    assert main([*arguments, "--forwarded", "600", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written.keys() == document([], "", {}).keys()
    one, two = written["scenarios"]
    assert (one["workers"], one["forwarded"], one["lost"]) == (1, 600, 0)
    assert (two["workers"], two["forwarded"], two["fan_out"]) == (2, 1200, 3)
    assert one["times_one_worker"] == 1
    assert two["times_one_worker"] == round(two["rate_by_cpu"] / one["rate_by_cpu"], 2)
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:3] == ["1", "3", GCM.value]


def test_a_loss_is_the_end_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def lose(_scenario: Scenario) -> Round:
        raise Lost("channel-0: packet 3 of 5 did not arrive")

    monkeypatch.setattr(workers, "measure", lose)
    assert main(["--quick"]) == 1
    assert capsys.readouterr().err.endswith("benchmarks.workers: channel-0: packet 3 of 5 did not arrive\n")


def test_the_rate_is_what_the_busiest_worker_allows() -> None:
    rounds = [Round(1000, 2.0, (0.5, 0.25)), Round(1000, 4.0, (1.0, 0.0))]
    row = summarize(Scenario(2, 10, GCM, 500), rounds, 1000.0)
    assert (row["rate_by_cpu"], row["rate_by_clock"], row["times_one_worker"]) == (2000, 500, 2.0)
    assert summarize(Scenario(2, 10, GCM, 500), rounds, None)["times_one_worker"] is None


def test_what_the_sink_gets_is_thrown_away() -> None:
    with open_sink() as sink, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", sink.getsockname())
        sink.setblocking(False)
        with pytest.raises(BlockingIOError):
            sink.recv(10)


async def test_a_load_that_is_not_relayed_says_so() -> None:
    settings = MediaSettings(workers=1)
    with bind_media(settings, "127.0.0.1", 0) as sockets:
        plane = WorkerMediaPlane(make_hub(settings), sockets, Begin(settings, DEFAULT_SPEAKING), None)
        load = ChannelLoad(plane, "x", GCM, 1, ("127.0.0.1", 9))
        load.prepare(5)
        with pytest.raises(Lost, match="x: packet 0 of 5 did not arrive"), trio.fail_after(10):
            await load.run(0.05)
        load.close()
