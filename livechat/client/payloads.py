"""Owns the way from a server's packet to the classes of `livechat.protocol.events`.

It must not act on them. A newer server may say more: unknown fields and unknown words are let through, an optional
field may be null or left out, and an unknown op is no event. What remains must be of the type it says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar, cast, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn

from livechat.client.events import ServerEvent
from livechat.error import ProtocolError
from livechat.protocol import chunks, events, jobs, voice_events
from livechat.protocol.catalog import ACK_DATA, FLOOR_OPS
from livechat.protocol.codec import Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.types import (
    AnnouncementId,
    ChannelId,
    JobId,
    MessageId,
    SessionId,
    Ssrc,
    StreamId,
    UserId,
)

T = TypeVar("T")

PARTIAL: Final = str | bytes | None

EVENTS: Final[dict[int, type[ServerEvent]]] = {
    Op.CHANNEL_EVENT: events.ChannelEvent,
    Op.MESSAGE_EVENT: events.Message,
    Op.READ_EVENT: events.ReadEvent,
    Op.PRESENCE_EVENT: events.UserPresence,
    Op.TYPING_EVENT: events.TypingEvent,
    Op.UNREAD_EVENT: events.UnreadEvent,
    Op.NOTIFICATION: events.Notification,
    Op.ANNOUNCEMENT: events.Announcement,
    Op.SETTINGS_EVENT: events.SettingsEvent,
    **{op: cls for cls, op in FLOOR_OPS.items()},
    Op.MEDIA_UPDATE: voice_events.MediaUpdate,
    Op.JOB_EVENT: jobs.JobEvent,
    Op.SPEAKING: voice_events.SpeakingEvent,
    Op.MEDIA_CHUNK_EVENT: chunks.ChunkEvent,
}

ANSWERS: Final[dict[int, type[Any]]] = {op: cls for op, cls in ACK_DATA.items() if op != Op.TYPING}
"""What ACK.data holds, by the op of the request. TYPING's is not relied on: a server may leave it empty."""


def structure_untrusted(value: Any, cls: type[T]) -> T:
    """Build an instance of one of the events' classes.

    Raises:
        ProtocolError: a field is missing or of the wrong type.
    """
    try:
        return _converter.structure(value, cls)
    except Exception as exc:  # noqa: BLE001 - whatever a payload provokes is the payload's fault
        raise ProtocolError(f"{cls.__name__}: {type(exc).__name__}: {str(exc)[:200]}") from None


def events_untrusted(packet: Packet) -> list[ServerEvent]:
    """Return the events that a packet tells of; none if its op is not an event that this version knows.

    Raises:
        ProtocolError: see `structure_untrusted`.
    """
    if packet.op == Op.PRESENCE_EVENT and packet.d is not None and "users" in packet.d:
        return list(structure_untrusted(packet.d, events.PresenceBatch).users)
    cls = EVENTS.get(packet.op)
    return [] if cls is None else [structure_untrusted(packet.d, cls)]


def event_of_row(row: events.Message) -> events.Message | events.ChannelEvent:
    """Turn a message of HISTORY into the event that was sent for it: of a SYSTEM message, a CHANNEL_EVENT."""
    if row.message_type != "SYSTEM" or row.system is None:
        return row
    kind, user_id = row.system.get("event"), row.system.get("user_id")
    if not isinstance(kind, str) or not isinstance(user_id, str):
        return row
    fact = {"event": kind, "channel_id": row.channel_id, "member": {"user_id": user_id}, "seq": row.seq}
    return _converter.structure(fact, events.ChannelEvent)


# --- the converter: exact in types, open in words -------------------------------------------------------


def _exact(cls: type[Any], name: str) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _type: object) -> Any:
        if type(value) is not cls:
            raise ValueError(f"expected {name}")
        return value

    return structure


def _number(value: Any, _type: object) -> float:
    # Not every language writes a float as such.
    if type(value) not in (int, float):
        raise ValueError("expected a number")
    return float(value)


def _partial(value: Any, _type: object) -> str | bytes | None:
    if value is not None and type(value) not in (str, bytes):
        raise ValueError("expected text or bytes")
    return cast("str | bytes | None", value)


def _is(kind: object) -> Callable[[Any], bool]:
    def check(cls: Any) -> bool:
        return get_origin(cls) is kind

    return check


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    text, integer = _exact(str, "text"), _exact(int, "an integer")
    for name in (str, UserId, ChannelId, SessionId, MessageId, AnnouncementId, JobId, StreamId):
        converter.register_structure_hook(name, text)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(lambda cls: cls == PARTIAL, _partial)
    for number in (int, Ssrc):
        converter.register_structure_hook(number, integer)
    converter.register_structure_hook(bool, _exact(bool, "true or false"))
    converter.register_structure_hook(bytes, _exact(bytes, "bytes"))
    # Every word of the protocol is text, and a newer server may have more of them.
    converter.register_structure_hook_factory(_is(Literal), lambda _cls: text)

    def lists(cls: Any) -> Callable[[Any, Any], Any]:
        item = get_args(cls)[0]
        hook = converter.get_structure_hook(item)
        build = tuple if get_origin(cls) is tuple else list

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not list:
                raise ValueError("expected a list")
            return build([hook(each, item) for each in value])

        return structure

    def mappings(cls: Any) -> Callable[[Any, Any], Any]:
        item = get_args(cls)[1]
        hook = converter.get_structure_hook(item)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not dict:
                raise ValueError("expected an object")
            return {key: hook(each, item) for key, each in value.items()}

        return structure

    def objects(cls: type[Any]) -> Callable[[Any, Any], Any]:
        inner = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=False)
        attrs.resolve_types(cls)
        nullable = [field.name for field in attrs.fields(cls) if type(None) in get_args(field.type)]

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not dict:
                raise ValueError("expected an object")
            try:
                return inner(value, cls)
            except (KeyError, ValueError, TypeError):
                # Once more, with null for what was left out and may be null, and defaults for what is null.
                given = {name: each for name, each in value.items() if each is not None}
                return inner(dict.fromkeys(nullable) | given, cls)

        return structure

    converter.register_structure_hook_factory(_is(list), lists)
    converter.register_structure_hook_factory(_is(tuple), lists)
    converter.register_structure_hook_factory(_is(dict), mappings)
    converter.register_structure_hook_factory(attrs.has, objects)
    return converter


_converter: Final = _make_converter()
