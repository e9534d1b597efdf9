"""A process that is killed has stored whatever it had acknowledged."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from livechat.store.base import perform
from livechat.store.sqlite import open_sqlite_store
from tests.support.store import in_one_go, last_seq, message, state_of
from tests.support.store_sqlite import Rival

ACKNOWLEDGED_MIN = 500


def send_until_killed(data_dir: Path, count: int) -> dict[str, int]:
    """Return the seq of each nonce that the sender printed; it is killed once there are `count`."""
    command = [sys.executable, "-m", "tests.support.store_sender", str(data_dir)]
    acknowledged: dict[str, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # cut off by the kill
            nonce, seq = line.split()
            acknowledged[nonce] = int(seq)
            if len(acknowledged) == count:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return acknowledged


@pytest.mark.parametrize("round_", range(3))
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, round_: int) -> None:
    acknowledged = send_until_killed(tmp_path, ACKNOWLEDGED_MIN + 37 * round_)

    async with open_sqlite_store(tmp_path) as store:
        repeated = await in_one_go(store, [message("ann", nonce, nonce=nonce) for nonce in acknowledged])
        assert {outcome.unwrap().duplicate for outcome in repeated} == {True}
        assert [outcome.unwrap().seq for outcome in repeated] == list(acknowledged.values())
        newest = await last_seq(store)
        assert (await state_of(store, "ann")).member.read_seq == newest
        rival = Rival(tmp_path)
        assert rival.query("SELECT count(*), min(seq), max(seq) FROM message") == [(newest, 1, newest)]
        rival.close()
        assert (await perform(store, message("ann"))).seq == newest + 1
