from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.gateway.liveness import SILENCE_GRAINS, Liveness
from livechat.protocol.opcodes import CloseCode

GRAIN_S = 45 / SILENCE_GRAINS


def silent_by(at: float) -> tuple[float, CloseCode]:
    """Return what is due once it was silent up to `at`: at the next multiple of the grain."""
    return -(-at // GRAIN_S) * GRAIN_S, CloseCode.HEARTBEAT_TIMEOUT


def new_liveness() -> Liveness:
    """Opened at 100 s: identify by 110, silent no longer than 45 s."""
    return Liveness(100.0, heartbeat_interval_s=30.0, identify_timeout_s=10.0)


def test_at_first_identify_is_what_is_due() -> None:
    assert new_liveness().deadline() == (110.0, CloseCode.IDENTIFY_TIMEOUT)


def test_with_a_session_silence_is_what_is_due_and_every_frame_puts_it_off() -> None:
    liveness = new_liveness()
    liveness.identified(None)
    assert liveness.deadline() == silent_by(145.0)
    liveness.heard(120.0)
    assert liveness.deadline() == silent_by(165.0)


@given(st.floats(0, 1e9), st.floats(0.03, 3600))
def test_silence_is_closed_no_sooner_and_a_little_later_at_a_time_that_many_share(
    heard_at: float, interval_s: float
) -> None:
    liveness = Liveness(heard_at, heartbeat_interval_s=interval_s, identify_timeout_s=1e9)
    silence_s = 1.5 * interval_s
    deadline, code = liveness.deadline()
    assert code is CloseCode.HEARTBEAT_TIMEOUT
    rounding = 1e-6
    assert (
        heard_at + silence_s - rounding <= deadline <= heard_at + silence_s * (1 + 1 / SILENCE_GRAINS) + rounding
    )


def test_connections_that_were_heard_at_many_times_are_looked_at_in_few_moments() -> None:
    moments = set()
    for number in range(1000):
        liveness = new_liveness()
        liveness.identified(None)
        liveness.heard(200.0 + number * 0.03)
        moments.add(liveness.deadline()[0])
    assert len(moments) <= 30 / GRAIN_S + 2


def test_the_time_to_identify_stands_still_while_an_identify_is_answered() -> None:
    liveness = new_liveness()
    liveness.asked(104.0)
    assert liveness.deadline() == silent_by(145.0)
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
    assert liveness.deadline() == silent_by(145.0)


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
