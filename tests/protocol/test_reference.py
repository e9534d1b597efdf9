"""The protocol reference, README.md beside the code, says what the code does."""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
import pytest

from livechat import error
from livechat.error import InvalidToken, LiveError
from livechat.handlers.limits import ChatLimits
from livechat.http.app import all_endpoints
from livechat.limits.settings import AddressLimits
from livechat.protocol import events, requests
from livechat.protocol.catalog import ACK_DATA
from livechat.protocol.codec import Packet, request_untrusted
from livechat.protocol.jobs import TRANSITIONS
from livechat.protocol.opcodes import CloseCode, Op, ends_session
from livechat.protocol.requests import REQUESTS, TOKEN_LENGTH_MAX
from livechat.protocol.types import ID_LENGTH_MAX
from livechat.store.permissions import REFUSALS, Deed, Standing
from livechat.tokens.claims import SCOPES, read_claims
from livechat.tokens.settings import ALGORITHMS, AuthSettings
from tests.support.reference import TEXT, check, fields, table
from tests.support.sent import SENT

STRUCTURES = dict(table("structure", "fields"))
SPECIAL_ANSWERS = {
    Op.HEARTBEAT: "HEARTBEAT_ACK",
    Op.IDENTIFY: "READY",
    Op.RESUME: "RESUMED or INVALID_SESSION",
}


def spelled_out(cell: str) -> str:
    """Write `a Message` as its fields."""
    match = re.fullmatch(r"an? (\w+)(.*)", cell)
    return STRUCTURES[match[1]] + match[2] if match else cell


# --- the tables of ops ---------------------------------------------------------------------------------


def test_every_request_is_there_once_by_its_name_and_in_order() -> None:
    rows = table("op", "name", "d", "answer")
    assert [(int(row[0]), row[1]) for row in rows] == [(op, Op(op).name) for op in sorted(REQUESTS)]


@pytest.mark.parametrize("row", table("op", "name", "d", "answer"), ids=lambda row: row[1])
def test_a_request_has_the_fields_that_the_reference_says(row: list[str]) -> None:
    op = int(row[0])
    if row[2] == "null":
        assert not attrs.fields(REQUESTS[op])
    else:
        check(row[2], REQUESTS[op])
    if "null" in row[2]:
        assert request_untrusted(Packet(op, None)) == request_untrusted(Packet(op, {}))


@pytest.mark.parametrize("row", table("op", "name", "d", "answer"), ids=lambda row: row[1])
def test_a_request_is_answered_as_the_reference_says(row: list[str]) -> None:
    op = Op(int(row[0]))
    if op in SPECIAL_ANSWERS:
        assert row[3] == SPECIAL_ANSWERS[op]
    else:
        check(spelled_out(row[3]), ACK_DATA[op])


def test_everything_the_server_sends_is_there_once_by_its_name_and_in_order() -> None:
    rows = table("op", "name", "d")
    assert [(int(row[0]), row[1]) for row in rows] == [(op, Op(op).name) for op in sorted(SENT)]


@pytest.mark.parametrize("row", table("op", "name", "d"), ids=lambda row: row[1])
def test_what_the_server_sends_has_the_fields_that_the_reference_says(row: list[str]) -> None:
    cls = SENT[int(row[0])]
    if cls is None:
        assert row[2] == "null"
    else:
        check(spelled_out(row[2]), cls)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_has_the_fields_that_the_reference_says(name: str) -> None:
    check(STRUCTURES[name], getattr(events, name))


def test_a_list_of_fields_that_is_wrong_is_found_out() -> None:
    good = "channel_id, channel_name?, capacity?, private?, max_speakers?"
    check(good, requests.ChannelUpdate)
    for bad in (good + ", color?", "channel_id", good.replace("_id", "_id?"), good.replace("private?", "private")):
        with pytest.raises(AssertionError):
            check(bad, requests.ChannelUpdate)
    for bad in ("channels {channel_id: {after}}", "channels {channel_id: {after, before}}", "channels"):
        with pytest.raises(AssertionError):
            check(bad, requests.Sync)
    with pytest.raises(AssertionError):
        check("channel_id, limit?=50, after?", requests.MemberList)


# --- what fields may hold ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("token", requests.TOKEN_LENGTH_MAX),
        ("channel_name", requests.NAME_LENGTH_MAX),
        ("capacity", requests.CAPACITY_MAX),
        ("content", ChatLimits().message_chars),
        ("nonce", requests.NONCE_LENGTH_MAX),
        ("mentions", requests.MENTIONS_MAX),
        ("limit", requests.HISTORY_LIMIT_MAX),
        ("limit", requests.LIST_LIMIT_MAX),
        ("channels", requests.CHANNELS_MAX),
        ("jobs", requests.JOBS_MAX),
        ("text", requests.STATUS_TEXT_MAX),
        ("settings", requests.SETTINGS_BYTES_MAX),
        ("settings", requests.SETTINGS_LEVELS_MAX),
    ],
)
def test_a_limit_is_the_one_of_the_code(field: str, number: int) -> None:
    (held,) = [row[1] for row in table("field", "may hold") if field in row[0].split(", ")]
    assert re.search(rf"\b({number}|{number:,})\b", held)


def test_whatever_has_a_limit_is_a_field_of_some_request() -> None:
    names = {name for row in table("op", "name", "d", "answer") if row[2] != "null" for name in fields(row[2])}
    nested = {"before", "after"}
    assert {name for row in table("field", "may hold") for name in row[0].split(", ")} <= names | nested


def test_the_length_of_ids_is_the_one_of_the_code() -> None:
    assert f"are 1-{ID_LENGTH_MAX} letters and digits" in TEXT


# --- errors and close codes ----------------------------------------------------------------------------


def test_every_error_is_there_and_may_be_retried_where_the_code_says_so() -> None:
    classes = [cls for cls in vars(error).values() if isinstance(cls, type) and issubclass(cls, LiveError)]
    assert {int(code): mark == "✓" for code, _, mark in table("code", "meaning", "retryable")} == {
        cls.code: cls.retryable for cls in classes if cls is not LiveError
    }


def test_every_close_code_of_ours_is_there_with_what_becomes_of_the_session() -> None:
    rows = table("code", "meaning", "session")
    assert [int(row[0]) for row in rows] == sorted(code for code in CloseCode if code >= 4000)
    for code, _, session in rows:
        assert (session == "ended") is ends_session(int(code), by_peer=False)


def test_the_states_of_jobs_are_those_of_the_code() -> None:
    documented = {
        state.strip("`"): set(re.findall(r"`(\w+)`", following))
        for state, _, following in table("state", "means", "may become")
    }
    assert documented == {
        state: {following for following in steps.values() if following != state}
        for state, steps in TRANSITIONS.items()
    }


# --- tokens ----------------------------------------------------------------------------------------------


def test_the_algorithms_and_scopes_of_tokens_are_those_of_the_code() -> None:
    assert [alg for alg, _ in table("alg", "key")] == list(ALGORITHMS)
    assert [scope for scope, _ in table("scope", "good for")] == list(SCOPES)
    assert f"at most {TOKEN_LENGTH_MAX} characters and says nothing twice" in TEXT.replace("\n", " ")


class Asked(dict[str, Any]):
    """Claims that note which of them are asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_the_claims_of_tokens_are_those_that_are_read() -> None:
    claims = Asked(sub="alice", exp=2, iss="i", aud="a")
    settings = AuthSettings(issuer="i", audience="a")
    read_claims(claims, settings, 1000, 0)
    assert {claim for claim, _, _ in table("claim", "holds", "meaning")} == claims.names
    for claim, _, meaning in table("claim", "holds", "meaning"):
        if meaning.endswith("required"):
            with pytest.raises(InvalidToken, match=claim):
                read_claims({name: claims[name] for name in claims if name != claim}, settings, 1000, 0)


# --- who may -------------------------------------------------------------------------------------------

COLUMNS = {
    "owner": Standing.OWNER,
    "moderator": Standing.MODERATOR,
    "member": Standing.MEMBER,
    "outsider": Standing.OUTSIDER,
    "banned": Standing.BANNED,
    "excluded": Standing.EXCLUDED,
    "absent owner": Standing.ABSENT_OWNER,
    "hidden owner": Standing.HIDDEN_OWNER,
    "admin": Standing.ADMIN,
}
DEEDS = {
    "revoking the floor": Deed.FLOOR_REVOKE,
    "using the floor": Deed.FLOOR,
    "MEDIA_CHUNK": Deed.CHUNK,
    "CHANNEL_INFO": Deed.INFO,
    "CHANNEL_JOIN": Deed.JOIN,
    "CHANNEL_LEAVE": Deed.LEAVE,
    "CHANNEL_UPDATE": Deed.UPDATE,
    "CHANNEL_DELETE": Deed.DELETE,
    "MESSAGE_CREATE": Deed.MESSAGE,
    "giving a role": Deed.ROLE_CHANGE,
    "removing a moderator": Deed.MODERATOR_REMOVE,
}


def test_who_may_do_what_is_what_the_store_enforces() -> None:
    documented = {}
    for what, *cells in table("", *COLUMNS):
        for name in what.split(", "):
            deed = DEEDS[name] if name in DEEDS else Deed[name]
            assert deed not in documented
            documented[deed] = dict(zip(COLUMNS.values(), cells, strict=True))
    assert documented == {
        deed: {who: "✓" if refusal is None else str(refusal.code) for who, refusal in row.items()}
        for deed, row in REFUSALS.items()
    }


# --- HTTP ----------------------------------------------------------------------------------------------

WHO = {"public": "anybody", "send": "user or publish"}


def test_every_endpoint_is_there_with_who_may_call_it_and_what_it_does() -> None:
    assert [tuple(row) for row in table("method and path", "for", "does")] == [
        (
            f"{endpoint.method} {endpoint.path}",
            WHO.get(endpoint.access, endpoint.access),
            endpoint.summary[0].lower() + endpoint.summary[1:],
        )
        for endpoint in all_endpoints()
    ]


# --- limits --------------------------------------------------------------------------------------------


def test_the_limits_of_an_address_are_those_of_the_code() -> None:
    limits = AddressLimits()
    told = " ".join(TEXT.split())
    assert f"may connect {limits.connects_per_min // 60} times a second" in told
    assert f"after a burst of {limits.connects_burst}, and hold {limits.connections} connections" in told
    assert f"After {limits.failures_burst} tokens that are no good" in told


# --- the session ---------------------------------------------------------------------------------------

LINES = re.findall(r"^([CS]) (\{.*\})$", TEXT, re.MULTILINE)


def parsed(line: str) -> Packet:
    """Read a line of the session, in which `…` stands for what is left out."""
    return Packet(**json.loads(line.replace(",…}", "}").replace("…", "x")))


def test_the_session_goes_on_after_a_loss() -> None:
    ops = [parsed(line).op for _, line in LINES]
    assert ops.count(Op.HELLO) == 2
    assert ops[0] == Op.HELLO
    assert ops[-1] == Op.ACK
    assert Op.RESUME in ops


@pytest.mark.parametrize("line", [line for who, line in LINES if who == "C"])
def test_what_the_client_says_in_the_session_is_understood(line: str) -> None:
    request_untrusted(parsed(line))


@pytest.mark.parametrize("line", [line for who, line in LINES if who == "S"])
def test_what_the_server_says_in_the_session_has_the_fields_of_the_code(line: str) -> None:
    packet = parsed(line)
    assert packet.d is not None
    check_instance(packet.d, SENT[packet.op], whole=",…}" not in line)
    if packet.op == Op.ACK:
        check_instance(packet.d["data"], ACK_DATA[packet.d["op"]], whole=True)
    for state in packet.d.get("channels", {}).values() if packet.op == Op.RESUMED else ():
        check_instance(state, events.ResumedChannel, whole=True)


def check_instance(value: Any, cls: type[Any] | None, *, whole: bool) -> None:
    """Assert that an object has only fields of a class, and if it is whole all that are always there."""
    assert cls is not None
    declared = attrs.fields(cls)
    assert set(value) <= {field.name for field in declared}
    if whole:
        assert set(value) >= {field.name for field in declared if field.default is attrs.NOTHING}
