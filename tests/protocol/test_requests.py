from __future__ import annotations

import copy
import re
from typing import Any

import attrs
import msgpack
import pytest

from livechat.error import ProtocolError, UnknownOpcode
from livechat.protocol import requests
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS
from livechat.protocol.types import ChannelId
from tests.support.packets import FULL, assert_can_be_sent, read

# --- what clients may send, field by field -----------------------------------------------------------

ID = ("a", "x" * 64, "Ünï-号_.:@-9")
NOT_ID = ("", "x" * 65, "a b", "a/b", "a\n", "a\0", "\ud800", 5, True, ["a"], {"a": 1})
NOT_TEXT = (5, 1.5, True, ["a"], {"a": 1}, "a\0b", "lone \udfff")
NOT_INT = ("5", 1.5, 1.0, True, [1], {"a": 1})
NOT_BOOL: tuple[object, ...] = (0, 1, "true", [], {})
NOT_OBJECT: tuple[object, ...] = ("a", 5, True, [], ["a"])
NOT_LIST: tuple[object, ...] = ("a", 5, True, {}, {"0": "a"})
SEQ = (0, 2**63 - 1)
STATUS = ("ONLINE", "AWAY", "OFFLINE")
TOO_MANY = 10_001


def nested(levels: int) -> dict[str, Any]:
    """Return settings of so many objects within each other."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@attrs.frozen
class Field:
    """One field of a request, and what it may and may not hold."""

    op: Op
    path: str
    """As errors write it: `tracks[0].ssrc`, `channels[lobby].after`."""
    good: tuple[object, ...]
    bad: tuple[object, ...]
    required: bool | None = False
    """None: an entry of a map, which may be missing, but not null."""
    excludes: str | None = None
    """A field that must not be there as well."""

    @property
    def steps(self) -> list[str | int]:
        """The path as names, keys and indices."""
        return [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", self.path)]


def text(op: Op, path: str, least: int, most: int, *, required: bool = False) -> Field:
    good = ("x" * least, "x" * most, "é最😀"[:most], "\ufeff tab\t"[:most])
    too_short = ("",) if least else ()
    return Field(op, path, good, (*NOT_TEXT, *too_short, "x" * (most + 1)), required)


def integer(op: Op, path: str, least: int, most: int, *, required: bool = False) -> Field:
    return Field(op, path, (least, most), (*NOT_INT, least - 1, most + 1, 10**400), required)


def boolean(op: Op, path: str) -> Field:
    return Field(op, path, (True, False), NOT_BOOL)


def identifier(op: Op, path: str, *, required: bool = True) -> Field:
    return Field(op, path, ID, NOT_ID, required)


def literal(op: Op, path: str, *values: str, required: bool = False) -> Field:
    return Field(op, path, values, ("", "nonsense", values[0] + " ", 5, True, [values[0]], {}), required)


def seq_or_none(op: Op, path: str, *, excludes: str | None = None) -> Field:
    return attrs.evolve(integer(op, path, *SEQ), excludes=excludes)


def job_positions(op: Op) -> list[Field]:
    return [
        Field(
            op,
            "jobs",
            ({}, {"job_1": 0, "号": 2**63 - 1}, {f"j{number}": 0 for number in range(1000)}),
            (
                *NOT_OBJECT,
                *({key: 1} for key in NOT_ID if isinstance(key, str | int)),
                {f"j{number}": 0 for number in range(1001)},
            ),
        ),
        Field(op, "jobs[job_1]", SEQ, (*NOT_INT, None, -1, 2**63, 10**400), required=None),
    ]


U32 = (0, 2**32 - 1)
FIELDS = [
    *job_positions(Op.IDENTIFY),
    *job_positions(Op.RESUME),
    text(Op.IDENTIFY, "token", 0, 8192, required=True),
    identifier(Op.IDENTIFY, "user_id", required=False),
    integer(Op.IDENTIFY, "priority", 0, 2**31 - 1),
    text(Op.IDENTIFY, "device", 0, 100),
    literal(Op.IDENTIFY, "status", *STATUS),
    boolean(Op.IDENTIFY, "presence_batches"),
    identifier(Op.RESUME, "session_id"),
    text(Op.RESUME, "token", 0, 8192, required=True),
    Field(
        Op.RESUME,
        "channels",
        ({}, {"lobby": 0, "号": 2**63 - 1}, {f"c{number}": 0 for number in range(TOO_MANY - 1)}),
        (
            *NOT_OBJECT,
            *({key: 1} for key in NOT_ID if isinstance(key, str | int)),
            {b"lobby": 1},
            {f"c{number}": 0 for number in range(TOO_MANY)},
        ),
    ),
    Field(Op.RESUME, "channels[lobby]", SEQ, (*NOT_INT, None, -1, 2**63, 10**400), required=None),
    boolean(Op.RESUME, "presence_batches"),
    identifier(Op.CHANNEL_CREATE, "channel_id"),
    text(Op.CHANNEL_CREATE, "channel_name", 1, 100),
    literal(Op.CHANNEL_CREATE, "mode", "conference", "ptt"),
    boolean(Op.CHANNEL_CREATE, "durable"),
    integer(Op.CHANNEL_CREATE, "capacity", 1, 100_000),
    boolean(Op.CHANNEL_CREATE, "private"),
    integer(Op.CHANNEL_CREATE, "max_speakers", 1, 1000),
    Field(
        Op.CHANNEL_CREATE,
        "freq",
        (145.5, 145, -1, "145.500 MHz", "x" * 64),
        ("", "x" * 65, "a\0", "\ud800", True, [], {}, 10**400, float("nan"), float("inf"), float("-inf")),
    ),
    identifier(Op.CHANNEL_JOIN, "channel_id"),
    integer(Op.CHANNEL_JOIN, "ssrc", *U32),
    Field(Op.CHANNEL_JOIN, "media", ({}, {"profiles": ["A"]}), NOT_OBJECT),
    Field(
        Op.CHANNEL_JOIN,
        "media.profiles",
        (["AES_CM_128_HMAC_SHA1_80"], ["whatever"] * 16, []),
        (*NOT_LIST, ["A"] * 17, [5], [None], ["a\0"]),
    ),
    Field(Op.CHANNEL_JOIN, "media.address", ({"host": "127.0.0.1", "port": 1},), NOT_OBJECT),
    Field(
        Op.CHANNEL_JOIN,
        "media.address.host",
        # Whether it is the client's own address is for the join to say (2007).
        ("127.0.0.1", "::1", "2001:db8::5", "::ffff:10.0.0.1", "localhost", ""),
        ("x" * 256, 2130706433, True, "127.0.0.1\0", "\ud800"),
        required=True,
    ),
    integer(Op.CHANNEL_JOIN, "media.address.port", 1, 65535, required=True),
    text(Op.CHANNEL_JOIN, "ufrag", 0, 256),
    text(Op.CHANNEL_JOIN, "sdp_offer", 0, 65536),
    Field(
        Op.CHANNEL_JOIN,
        "tracks",
        ([{"kind": "audio", "ssrc": 1}], [{"kind": "video", "ssrc": 1}] * 16, []),
        (*NOT_LIST, [{"kind": "audio", "ssrc": 1}] * 17, [None], ["audio"]),
    ),
    literal(Op.CHANNEL_JOIN, "tracks[0].kind", "audio", "video", required=True),
    integer(Op.CHANNEL_JOIN, "tracks[0].ssrc", *U32, required=True),
    identifier(Op.CHANNEL_LEAVE, "channel_id"),
    identifier(Op.CHANNEL_UPDATE, "channel_id"),
    text(Op.CHANNEL_UPDATE, "channel_name", 1, 100),
    integer(Op.CHANNEL_UPDATE, "capacity", 1, 100_000),
    boolean(Op.CHANNEL_UPDATE, "private"),
    integer(Op.CHANNEL_UPDATE, "max_speakers", 1, 1000),
    identifier(Op.CHANNEL_DELETE, "channel_id"),
    integer(Op.CHANNEL_LIST, "limit", 1, 200),
    identifier(Op.CHANNEL_LIST, "after", required=False),
    identifier(Op.CHANNEL_INFO, "channel_id"),
    identifier(Op.MESSAGE_CREATE, "channel_id"),
    text(Op.MESSAGE_CREATE, "content", 0, 65_536, required=True),
    literal(Op.MESSAGE_CREATE, "message_type", "TEXT", "FILE", "IMAGE"),
    Field(
        Op.MESSAGE_CREATE,
        "attachment",
        ({"url": "u", "name": "n", "bytes": 0, "mime": "m"},),
        NOT_OBJECT,
    ),
    text(Op.MESSAGE_CREATE, "attachment.url", 1, 2048, required=True),
    text(Op.MESSAGE_CREATE, "attachment.name", 1, 255, required=True),
    integer(Op.MESSAGE_CREATE, "attachment.bytes", 0, 2**53, required=True),
    text(Op.MESSAGE_CREATE, "attachment.mime", 1, 127, required=True),
    text(Op.MESSAGE_CREATE, "nonce", 1, 64),
    Field(
        Op.MESSAGE_CREATE,
        "mentions",
        ([], ["ann", "bob"], ["a"] * 100),
        (*NOT_LIST, ["a"] * 101, ["a b"], [5], [None], ["\ud800"]),
    ),
    identifier(Op.HISTORY, "channel_id"),
    seq_or_none(Op.HISTORY, "before_seq", excludes="after_seq"),
    seq_or_none(Op.HISTORY, "after_seq", excludes="before_seq"),
    integer(Op.HISTORY, "limit", 1, 100),
    Field(
        Op.SYNC,
        "channels",
        (
            {},
            {"lobby": {"after": 0, "before": 2**63 - 1}, "号": {"after": 5, "before": 5}},
            {f"c{number}": {"after": number, "before": None} for number in range(TOO_MANY - 1)},
        ),
        (
            *NOT_OBJECT,
            *({key: {"after": 1}} for key in NOT_ID if isinstance(key, str | int)),
            {b"lobby": {"after": 1}},
            {f"c{number}": {"after": 1} for number in range(TOO_MANY)},
        ),
        required=True,
    ),
    Field(
        Op.SYNC,
        "channels[lobby]",
        ({"after": 0, "before": 1},),
        (*NOT_OBJECT, None, {}, {"before": 1}),
        required=None,
    ),
    integer(Op.SYNC, "channels[lobby].after", *SEQ, required=True),
    seq_or_none(Op.SYNC, "channels[lobby].before"),
    identifier(Op.READ, "channel_id"),
    integer(Op.READ, "seq", *SEQ, required=True),
    identifier(Op.TYPING, "channel_id"),
    attrs.evolve(boolean(Op.TYPING, "typing"), required=True),
    identifier(Op.FOCUS, "channel_id", required=False),
    identifier(Op.SUBSCRIBE, "channel_id"),
    identifier(Op.UNSUBSCRIBE, "channel_id"),
    literal(Op.PRESENCE_UPDATE, "status", *STATUS, required=True),
    text(Op.PRESENCE_UPDATE, "text", 0, 128),
    identifier(Op.MEDIA_CHUNK, "channel_id"),
    identifier(Op.MEDIA_CHUNK, "stream_id"),
    integer(Op.MEDIA_CHUNK, "chunk_seq", *SEQ, required=True),
    text(Op.MEDIA_CHUNK, "mime", 1, 127, required=True),
    Field(
        Op.MEDIA_CHUNK,
        "data",
        (b"", b"\0\xff" * 100_000),
        (*NOT_OBJECT, "text", {"0": 1}, 1.5, msgpack.ExtType(5, b"x")),
        required=True,
    ),
    boolean(Op.MEDIA_CHUNK, "keyframe"),
    boolean(Op.MEDIA_CHUNK, "init"),
    identifier(Op.FLOOR_REQUEST, "channel_id"),
    integer(Op.FLOOR_REQUEST, "priority", 0, 2**31 - 1),
    literal(Op.FLOOR_REQUEST, "indicator", "normal", "broadcast", "imminent_peril", "emergency"),
    identifier(Op.FLOOR_RELEASE, "channel_id"),
    identifier(Op.FLOOR_PING, "channel_id"),
    identifier(Op.MEMBER_ADD, "channel_id"),
    identifier(Op.MEMBER_ADD, "user_id"),
    literal(Op.MEMBER_ADD, "role", "member", "moderator"),
    identifier(Op.MEMBER_REMOVE, "channel_id"),
    identifier(Op.MEMBER_REMOVE, "user_id"),
    boolean(Op.MEMBER_REMOVE, "ban"),
    identifier(Op.MEMBER_LIST, "channel_id"),
    integer(Op.MEMBER_LIST, "limit", 1, 200),
    identifier(Op.MEMBER_LIST, "after", required=False),
    Field(
        Op.SETTINGS_SET,
        "settings",
        (
            {},
            {"": None, "theme": {"dark": True, "sizes": [0, -0.5, 1e300, [], {}]}, "号": "é최😀"},
            {"most": 2**63 - 1, "least": -(2**63)},
            {"k": "x" * (16_384 - len('{"k":""}'))},
            {"k": "é" * ((16_384 - len('{"k":""}')) // 2)},
            nested(32),
        ),
        (
            *NOT_OBJECT,
            *({"k": value} for value in (float("nan"), float("inf"), 2**63, -(2**63) - 1, 10**400)),
            *({"k": value} for value in (b"x", msgpack.Timestamp(5), msgpack.ExtType(5, b"x"), "a\0", "\ud800")),
            *({"k": {"l": [value]}} for value in (float("nan"), b"x", "a\0", {b"x": 1}, {5: 1}, {"\ud800": 1})),
            *({key: 1} for key in (b"k", 5, "a\0", "\ud800")),
            {"k": "x" * (16_384 - len('{"k":""}') + 1)},
            {"k": "é" * ((16_384 - len('{"k":""}')) // 2 + 1)},
            {"k": [0] * 60_000},
            {str(number): number for number in range(10_000)},
            nested(33),
            nested(500),
            nested(100_000),
        ),
        required=True,
    ),
]


def changed(field: Field, **change: object) -> dict[str, Any]:
    """Return the full payload of the field's request with it set to `value`, or without it."""
    payload = copy.deepcopy(FULL[field.op])
    if field.excludes is not None:
        del payload[field.excludes]
    *parents, last = field.steps
    target: Any = payload
    for step in parents:
        target = target[step]
    if "value" in change:
        target[last] = change["value"]
    else:
        del target[last]
    return payload


def brief(value: object) -> str:
    """Name a value in a few characters; the deepest ones would exhaust `str`."""
    return ascii(value if isinstance(value, str | int | float | bytes) else type(value).__name__)[:20]


def plain(value: object) -> Any:
    """Return a value as a packet would carry it: lists for tuples, maps for classes."""
    return msgpack.unpackb(msgpack.packb(value, default=attrs.asdict))


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(field, value, id=f"{field.op.name}-{field.path}-{brief(value)}")
        for field in FIELDS
        for value in getattr(field, kind)
    ]


def test_every_field_of_every_request_is_in_the_table() -> None:
    listed = {(field.op, field.steps[0]) for field in FIELDS}
    assert listed == {(op, field.name) for op, cls in REQUESTS.items() for field in attrs.fields(cls)}
    for op, payload in FULL.items():
        assert set(payload) == {field.name for field in attrs.fields(REQUESTS[op])}


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_a_full_payload_is_read_as_it_is(op: int) -> None:
    request = read(op, FULL[op])
    assert type(request) is REQUESTS[op]
    assert plain(attrs.asdict(request)) == FULL[op]


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_optional_fields_may_be_left_out(op: int) -> None:
    required = {field.path for field in FIELDS if field.op == op and field.required}
    request = read(op, {name: value for name, value in FULL[op].items() if name in required})
    for field in attrs.fields(type(request)):
        if field.name not in required:
            assert getattr(request, field.name) == field.default


@pytest.mark.parametrize(("field", "value"), cases("good"))
def test_a_field_takes_what_it_may_hold(field: Field, value: object) -> None:
    request: Any = read(field.op, changed(field, value=value))
    for step in field.steps:
        request = getattr(request, step) if isinstance(step, str) and attrs.has(type(request)) else request[step]
    if field.path == "freq":
        value = str(value)
    if attrs.has(type(request)):
        request = attrs.asdict(request)
        value = {**dict.fromkeys(request), **value} if isinstance(value, dict) else value
    assert plain(request) == plain(value)


@pytest.mark.parametrize(("field", "value"), cases("bad"))
def test_a_field_refuses_what_it_may_not_hold_by_name(field: Field, value: object) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(field.op, changed(field, value=value))
    # The field itself, or a place within it.
    assert re.match(re.escape(field.path) + r"[:.\[]", caught.value.reason)
    assert_can_be_sent(caught.value)


@pytest.mark.parametrize("field", [field for field in FIELDS if field.required], ids=lambda f: f"{f.op}-{f.path}")
def test_a_required_field_left_out_or_null_is_named(field: Field) -> None:
    for payload in (changed(field), changed(field, value=None)):
        with pytest.raises(ProtocolError) as caught:
            read(field.op, payload)
        assert caught.value.reason.startswith(f"{field.path}: ")


@pytest.mark.parametrize(
    "field", [field for field in FIELDS if field.required is False], ids=lambda f: f"{f.op}-{f.path}"
)
def test_null_for_an_optional_field_is_as_if_it_were_left_out(field: Field) -> None:
    assert read(field.op, changed(field, value=None)) == read(field.op, changed(field))


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_unknown_fields_are_ignored_on_every_level(op: int) -> None:
    def with_more(value: Any) -> Any:
        if isinstance(value, list):
            return [with_more(item) for item in value]
        if isinstance(value, dict) and value is not payload.get("settings"):
            is_map = value is payload.get("channels") or value is payload.get("jobs")
            more = {} if is_map else {"x-new": {"deep": [None]}}
            return {key: with_more(item) for key, item in value.items()} | more
        return value

    payload = FULL[op]
    assert read(op, with_more(payload)) == read(op, payload)


@pytest.mark.parametrize("op", [Op.HEARTBEAT, Op.CHANNEL_LIST, Op.FOCUS])
def test_a_payload_of_null_is_an_empty_one(op: Op) -> None:
    assert read(op, None) == read(op, {})


@pytest.mark.parametrize("op", [op for op in REQUESTS if any(f.required for f in FIELDS if f.op == op)])
def test_a_payload_of_null_names_the_field_that_is_missing(op: int) -> None:
    with pytest.raises(ProtocolError, match=r": required$"):
        read(op, None)


@pytest.mark.parametrize("op", [-1, 0, 2, 4, 8, 99, 100, 200, 201, 255, 2**63 - 1, -(2**63)])
def test_an_op_that_clients_may_not_send_is_unknown(op: int) -> None:
    with pytest.raises(UnknownOpcode) as caught:
        read(op, {})
    assert (caught.value.code, caught.value.reason.startswith(f"op: {op}")) == (1003, True)
    assert_can_be_sent(caught.value, op)


@pytest.mark.parametrize(
    ("payload", "mode", "durable"),
    [
        ({}, "conference", True),
        ({"freq": 145.5}, "ptt", False),
        ({"freq": 145.5, "durable": True}, "ptt", True),
        ({"freq": 145.5, "mode": "conference"}, "conference", True),
        ({"freq": 145.5, "mode": "ptt"}, "ptt", True),
        ({"mode": "ptt"}, "ptt", True),
        ({"durable": False}, "conference", False),
    ],
)
def test_freq_alone_makes_mini_livechats_channel(payload: dict[str, Any], mode: str, durable: bool) -> None:
    request = read(Op.CHANNEL_CREATE, {"channel_id": "lobby", **payload})
    assert isinstance(request, requests.ChannelCreate)
    assert (request.effective_mode, request.effective_durable) == (mode, durable)


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        ({}, False),
        ({"ufrag": "u"}, False),
        ({"ssrc": 0}, True),
        ({"media": {}}, True),
        ({"tracks": [{"kind": "audio", "ssrc": 1}]}, True),
        ({"sdp_offer": ""}, True),
    ],
)
def test_a_join_asks_for_voice_by_ssrc_media_tracks_or_an_offer(payload: dict[str, Any], wanted: bool) -> None:
    request = read(Op.CHANNEL_JOIN, {"channel_id": "lobby", **payload})
    assert isinstance(request, requests.ChannelJoin)
    assert request.wants_voice is wanted


@pytest.mark.parametrize("payload", [None, {}, {"channel_id": None}])
def test_a_focus_on_nothing_is_null_with_or_without_a_name(payload: dict[str, Any] | None) -> None:
    assert read(Op.FOCUS, payload) == requests.Focus(None)


def test_history_goes_one_way() -> None:
    with pytest.raises(ProtocolError, match=r"^after_seq: .*got both$"):
        read(Op.HISTORY, {"channel_id": "lobby", "before_seq": 9, "after_seq": 3})
    assert read(Op.HISTORY, {"channel_id": "lobby"}) == requests.History(ChannelId("lobby"), None, None, 20)


def test_what_proves_who_one_is_does_not_show_in_a_repr() -> None:
    for op in (Op.IDENTIFY, Op.RESUME):
        assert "hunter2" not in repr(read(op, {"token": "hunter2", "session_id": "hunter2"}))


def test_what_users_write_for_themselves_does_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(read(Op.SETTINGS_SET, {"settings": {"hunter2": "hunter2"}}))
    assert "hunter2" not in repr(read(Op.MESSAGE_CREATE, {"channel_id": "lobby", "content": "hunter2"}))
