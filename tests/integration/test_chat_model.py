"""Random histories of chat: several users, each on several devices, against a model of the channels.

What is checked: answers, counts and who may (`tests.support.chat_model`), that one order explains all answers
(`chat_order`), every seq once and in order, across connections (`chat_hearing`), that nothing is missing and
nothing else is told (`chat_checks`), and that at the end nothing is left (`chat_stage`).
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from trio.testing import MockClock

import livechat
from livechat.config import StoreSettings
from livechat.handlers.limits import ChatLimits
from tests.support.chat_script import Script, scripts
from tests.support.chat_stage import play
from tests.support.server import make_config

EXAMPLES = int(os.environ.get("LIVECHAT_TEST_EXAMPLES", "0"))
"""How many random histories are tried with each store by a long search; without it, always the same few."""
FEW_EXAMPLES = 30
FOR_EVER_MS = 3_600_000
"""The clock jumps; what the test does not want to happen by that is due only then."""


def open_server(store: StoreSettings, data_dir: Path) -> AbstractAsyncContextManager[livechat.Server]:
    """A server whose queues are short and whose deadlines are far."""
    gateway = {
        "heartbeat_interval_ms": FOR_EVER_MS,
        "stall_timeout_ms": FOR_EVER_MS,
        "resume_window_ms": 120_000,
        "egress_frames": 256,
        "egress_bytes": 65_536,
    }
    chat = ChatLimits(message_chars=8000)
    return livechat.open_server(make_config(data_dir, gateway=gateway, chat=chat, store=store))


@pytest.mark.parametrize("url", [None, "memory:"])
@settings(
    max_examples=EXAMPLES or FEW_EXAMPLES,
    derandomize=not EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(script=scripts(30, 60))
def test_whatever_clients_do_they_see_one_sequence_and_nothing_is_left(url: str | None, script: Script) -> None:
    run(StoreSettings(url=url), script)


def run(store: StoreSettings, script: Script) -> None:
    """Play a script; what fails is raised as it is, without the groups of the nurseries."""
    clock = MockClock(rate=1)
    with tempfile.TemporaryDirectory() as data_dir:
        try:
            trio.run(play, lambda: open_server(store, Path(data_dir)), clock, script, clock=clock)
        except BaseExceptionGroup as group:
            exc: BaseException = group
            while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
                exc = exc.exceptions[0]
            raise exc from None
