from __future__ import annotations

from livechat.gateway.liveness import Liveness
from livechat.protocol.opcodes import CloseCode


def new_liveness() -> Liveness:
    """Opened at 100 s: identify by 110, silent no longer than 45 s."""
    return Liveness(100.0, heartbeat_interval_s=30.0, identify_timeout_s=10.0)


def test_at_first_identify_is_what_is_due() -> None:
    assert new_liveness().deadline() == (110.0, CloseCode.IDENTIFY_TIMEOUT)


def test_with_a_session_silence_is_what_is_due_and_every_frame_puts_it_off() -> None:
    liveness = new_liveness()
    liveness.identified(None)
    assert liveness.deadline() == (145.0, CloseCode.HEARTBEAT_TIMEOUT)
    liveness.heard(120.0)
    assert liveness.deadline() == (165.0, CloseCode.HEARTBEAT_TIMEOUT)


def test_the_time_to_identify_stands_still_while_an_identify_is_answered() -> None:
    liveness = new_liveness()
    liveness.asked(104.0)
    assert liveness.deadline() == (145.0, CloseCode.HEARTBEAT_TIMEOUT)
    liveness.answered(112.0)
    assert liveness.deadline() == (118.0, CloseCode.IDENTIFY_TIMEOUT)


def test_a_resume_gives_the_time_again_but_once() -> None:
    liveness = new_liveness()
    liveness.extend(109.0)
    assert liveness.deadline() == (119.0, CloseCode.IDENTIFY_TIMEOUT)
    liveness.extend(118.0)
    assert liveness.deadline() == (119.0, CloseCode.IDENTIFY_TIMEOUT)


def test_a_token_ends_its_connection_unless_it_is_renewed() -> None:
    liveness = new_liveness()
    liveness.identified(130.0)
    assert liveness.deadline() == (130.0, CloseCode.TOKEN_EXPIRED)
    liveness.identified(500.0)
    assert liveness.deadline() == (145.0, CloseCode.HEARTBEAT_TIMEOUT)


def test_a_token_is_warned_of_once_before_it_ends() -> None:
    liveness = new_liveness()
    liveness.identified(140.0, 120.0)
    assert liveness.deadline() == (120.0, None)
    liveness.warned()
    assert liveness.deadline() == (140.0, CloseCode.TOKEN_EXPIRED)
    liveness.identified(144.0, 130.0)
    assert liveness.deadline() == (130.0, None)


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    liveness = new_liveness()
    liveness.answered(105.0)
    assert liveness.deadline() == (110.0, CloseCode.IDENTIFY_TIMEOUT)
