from __future__ import annotations

import pytest

from livechat.error import AlreadyIdentified, LiveError, NotAuthenticated, UnknownOpcode
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS
from livechat.protocol.session import TRANSITIONS, State, next_state

NEED_A_SESSION = sorted(set(REQUESTS) - {Op.HEARTBEAT, Op.IDENTIFY, Op.RESUME})
NOT_FROM_CLIENTS = sorted((set(Op) - set(REQUESTS)) | {-1, 8, 99, 255, 10**30})


@pytest.mark.parametrize("state", [State.CONNECTED, State.ACTIVE])
def test_a_heartbeat_is_welcome_in_every_open_state_and_changes_nothing(state: State) -> None:
    assert next_state(state, Op.HEARTBEAT) is state


@pytest.mark.parametrize("op", [Op.IDENTIFY, Op.RESUME])
def test_identify_and_resume_lead_to_a_session(op: Op) -> None:
    assert next_state(State.CONNECTED, op) is State.ACTIVE


def test_identify_renews_an_identified_connection() -> None:
    assert next_state(State.ACTIVE, Op.IDENTIFY) is State.ACTIVE


def test_resume_belongs_on_a_new_connection() -> None:
    with pytest.raises(AlreadyIdentified):
        next_state(State.ACTIVE, Op.RESUME)


@pytest.mark.parametrize("op", NEED_A_SESSION)
def test_every_other_request_waits_for_a_session(op: int) -> None:
    with pytest.raises(NotAuthenticated):
        next_state(State.CONNECTED, op)
    assert next_state(State.ACTIVE, op) is State.ACTIVE


@pytest.mark.parametrize("op", NOT_FROM_CLIENTS)
@pytest.mark.parametrize("state", State)
def test_what_clients_may_not_send_is_unknown_in_every_state(state: State, op: int) -> None:
    with pytest.raises(UnknownOpcode, match=r"^op: "):
        next_state(state, op)


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_nothing_is_accepted_after_the_close(op: int) -> None:
    with pytest.raises(LiveError):
        next_state(State.CLOSED, op)


def test_the_table_knows_every_state_and_only_ops_of_clients() -> None:
    assert set(TRANSITIONS) == set(State)
    for transitions in TRANSITIONS.values():
        assert set(transitions) <= set(REQUESTS)
        assert State.CLOSED not in transitions.values()
