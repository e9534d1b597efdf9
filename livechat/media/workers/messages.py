"""Owns what the gateway and a media worker tell each other, and its form on the pipe between them.

It must not act on it. Both ends are one program, so a message that does not parse is a bug of ours, or memory gone
bad: the reader gives the other end up (`MessageError`), and the worker is started anew.

A frame is

    0        4                4 + n
    +--------+----------------+
    | n: u32 | msgpack        |        [name of the class, {field: value}]
    +--------+----------------+

Times are told as ages, in seconds before now: the clock of one Trio run says nothing to another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import attrs
import msgpack
from cattrs import Converter

from livechat.hub.peer import ChannelRules, ExtensionIds, MediaPeer, PeerQuality
from livechat.media.settings import MediaSettings, SpeakingSettings
from livechat.protocol.strict import make_converter
from livechat.protocol.types import Address, ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile

FRAME_BYTES_MAX: Final = 1 << 20
"""Of the msgpack; a report of `REPORT_PEERS_MAX` peers takes less than half of it."""
REPORT_PEERS_MAX: Final = 500
"""Peers in one `Report`."""
REPORT_INTERVAL_S: Final = 1.0
"""Between two reports of a worker, at most."""

_LENGTH: Final = struct.Struct("!I")


class MessageError(Exception):
    """What came over the pipe is no message."""


# --- from the gateway to a worker ---------------------------------------------------------------------


@attrs.frozen
class Begin:
    """The first message: how the worker is to relay, and how often to report."""

    settings: MediaSettings
    speaking: SpeakingSettings


@attrs.frozen
class Go:
    """Relay from now on: all peers of the run before were told, so none of their packets meets a stranger."""


@attrs.frozen
class PeerFacts:
    """A media peer, as a relay needs to know it."""

    peer_id: int
    channel_id: ChannelId
    user_id: UserId
    ssrc: Ssrc
    egress_ssrc: Ssrc
    reporter_ssrc: Ssrc
    profile: SrtpProfile
    client_key: bytes = attrs.field(repr=False)
    server_key: bytes = attrs.field(repr=False)
    age_s: float
    """Since it joined."""
    idle_s: float | None
    """Since its last authentic packet; None: there was none."""
    host: str | None
    """Where to send, if it is known."""
    port: int
    address_stated: bool
    extensions: ExtensionIds
    keys_taken: bool
    rekeys: int
    sent_up_to: int
    packets_received: int
    bytes_received: int
    packets_rejected: int
    packets_forwarded: int

    @classmethod
    def of(cls, peer: MediaPeer, now: float) -> PeerFacts:
        """Describe a peer of the gateway."""
        host, port = peer.address or (None, 0)
        return cls(
            age_s=now - peer.joined_at,
            idle_s=None if peer.last_seen is None else now - peer.last_seen,
            host=host,
            port=port,
            **{name: getattr(peer, name) for name in AS_THEY_ARE},
        )

    def make_peer(self, now: float) -> MediaPeer:
        """Make the worker's own; it has no session there."""
        return MediaPeer(
            session_id=SessionId(""),
            joined_at=now - self.age_s,
            last_seen=None if self.idle_s is None else now - self.idle_s,
            address=address_of(self.host, self.port),
            **{name: getattr(self, name) for name in AS_THEY_ARE},
        )


AS_THEY_ARE: Final = tuple(
    field.name for field in attrs.fields(PeerFacts) if field.name not in ("age_s", "idle_s", "host", "port")
)
"""What a peer's facts have in common with it, by name."""


@attrs.frozen
class Open:
    """Begin to relay for a peer; its keys were never used."""

    peer: PeerFacts
    rules: ChannelRules


@attrs.frozen
class Close:
    """End a peer."""

    peer_id: int
    farewell: bool
    """Whether the others are to get its BYE."""


@attrs.frozen
class SetRules:
    """Whose media is forwarded in a channel from now on."""

    channel_id: ChannelId
    rules: ChannelRules


@attrs.frozen
class Rekey:
    """Go over to new keys of a peer."""

    peer_id: int
    rekeys: int
    """How often they have changed by now."""
    client_key: bytes = attrs.field(repr=False)
    server_key: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, peer: MediaPeer) -> Rekey:
        """Tell the keys that a peer of the gateway has now."""
        return cls(peer.peer_id, peer.rekeys, peer.client_key, peer.server_key)

    def apply(self, peer: MediaPeer, now: float) -> None:
        """Give them to the worker's peer."""
        peer.client_key, peer.server_key = self.client_key, self.server_key
        peer.rekeys, peer.keys_taken, peer.keys_since = self.rekeys, False, now


@attrs.frozen
class Stop:
    """End, once all that was said before is done."""


# --- from a worker to the gateway ---------------------------------------------------------------------


@attrs.frozen
class Ready:
    """The worker relays."""


@attrs.frozen
class PeerReport:
    """What became of a peer up to now."""

    peer_id: int
    idle_s: float | None
    host: str | None
    port: int
    keys_taken: bool
    rekeys: int
    """Whose keys were taken: those of so many changes."""
    packets_received: int
    bytes_received: int
    packets_rejected: int
    packets_forwarded: int
    sent_up_to: int
    quality: PeerQuality

    @classmethod
    def of(cls, peer: MediaPeer, now: float) -> PeerReport:
        """Describe a peer of the worker."""
        host, port = peer.address or (None, 0)
        return cls(
            peer_id=peer.peer_id,
            idle_s=None if peer.last_seen is None else now - peer.last_seen,
            host=host,
            port=port,
            keys_taken=peer.keys_taken,
            rekeys=peer.rekeys,
            **{name: getattr(peer, name) for name in REPORTED},
        )

    def tell(self, peer: MediaPeer, now: float) -> None:
        """Bring the gateway's peer up to date."""
        if self.idle_s is not None:
            peer.last_seen = now - self.idle_s
        if self.host is not None:
            peer.address = (self.host, self.port)
        if self.rekeys == peer.rekeys:
            # Else they have changed since, and it speaks of the keys before.
            peer.keys_taken = self.keys_taken
        for name in REPORTED:
            setattr(peer, name, getattr(self, name))


REPORTED: Final = (
    *("packets_received", "bytes_received", "packets_rejected", "packets_forwarded", "sent_up_to", "quality"),
)
"""What a report has in common with a peer and is the worker's to say, by name."""


@attrs.frozen
class Report:
    """A sign of life, with what has changed; at least one an interval."""

    peers: tuple[PeerReport, ...]
    counters: dict[str, int]
    """Of the relay, since the worker's start."""
    cpu_s: float
    """Used by the worker since its start."""
    memory_bytes: int
    """That it has in physical memory."""


@attrs.frozen
class Speaking:
    """A peer begins or ends to speak."""

    peer_id: int
    speaking: bool
    level_db: int


@attrs.frozen
class KeysWorn:
    """A peer's keys come near the end of their lifetime."""

    peer_id: int


@attrs.frozen
class LogLine:
    """Something for the log, which is the gateway's."""

    level: str
    event: str
    fields: dict[str, str]


Message = Begin | Go | Open | Close | SetRules | Rekey | Stop | Ready | Report | Speaking | KeysWorn | LogLine

_CLASSES: Final[dict[str, type[Message]]] = {
    cls.__name__: cls
    for cls in (Begin, Go, Open, Close, SetRules, Rekey, Stop, Ready, Report, Speaking, KeysWorn, LogLine)
}


def report_interval_s(settings: MediaSettings) -> float:
    """Return how often a worker reports: several times within whatever is judged by its reports."""
    timeout_ms = min(settings.peer_timeout_ms, settings.worker_timeout_ms)
    return min(REPORT_INTERVAL_S, timeout_ms / 1000 / 4)


def address_of(host: str | None, port: int) -> Address | None:
    """Put an address together again."""
    return None if host is None else (host, port)


# --- frames -------------------------------------------------------------------------------------------


def _make_converter() -> Converter:
    converter = make_converter(detailed=False)
    # What was counted in whole numbers may stand where a fraction may.
    converter.register_structure_hook(float, _exactly(float, int))
    converter.register_structure_hook(bytes, _exactly(bytes))
    converter.register_structure_hook(SrtpProfile, lambda value, _type: SrtpProfile(value))
    return converter


def _exactly(*kinds: type[Any]) -> Any:
    def structure(value: Any, _type: object) -> Any:
        if type(value) not in kinds:
            raise ValueError(f"expected {kinds[0].__name__}")
        return value

    return structure


_converter: Final = _make_converter()
# msgpack has bytes; cattrs would write them as base85 text.
_converter.register_unstructure_hook(bytes, lambda value: value)


def serialize(message: Message) -> bytes:
    """Return the frame of a message."""
    body: bytes = msgpack.packb([type(message).__name__, _converter.unstructure(message)])
    assert len(body) <= FRAME_BYTES_MAX
    return _LENGTH.pack(len(body)) + body


def _parse(body: bytes) -> Message:
    try:
        name, fields = msgpack.unpackb(body)
        cls = _CLASSES[name]
        message: Message = _converter.structure(fields, cls)
    except Exception as exc:  # noqa: BLE001 - msgpack and cattrs raise many kinds; all mean the same here
        raise MessageError(f"expected a message, got {len(body)} bytes: {type(exc).__name__}") from None
    return message


class FrameReader:
    """Cuts what comes over the pipe into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes; yield the messages that are complete.

        Raises:
            MessageError: what came is no message; the reader can't be used any more.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while len(buffer) - at >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(buffer, at)
                if size > FRAME_BYTES_MAX:
                    raise MessageError(f"expected a frame of at most {FRAME_BYTES_MAX} bytes, got {size}")
                end = at + _LENGTH.size + size
                if len(buffer) < end:
                    break
                body = bytes(buffer[at + _LENGTH.size : end])
                at = end
                yield _parse(body)
        finally:
            del buffer[:at]
