from __future__ import annotations

import struct
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.hub.peer import ChannelRules, ExtensionIds, MediaPeer, PeerQuality
from livechat.media.settings import DEFAULT_SPEAKING, MediaSettings
from livechat.media.workers import messages
from livechat.media.workers.messages import (
    Begin,
    Close,
    FrameReader,
    Go,
    KeysWorn,
    LogLine,
    Message,
    MessageError,
    Open,
    PeerFacts,
    PeerReport,
    Ready,
    Rekey,
    Report,
    SetRules,
    Speaking,
    Stop,
    report_interval_s,
    serialize,
)
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile


def make_peer(**fields: Any) -> MediaPeer:
    given_fields: dict[str, Any] = {
        "peer_id": 7,
        "channel_id": ChannelId("lobby"),
        "user_id": UserId("ann"),
        "session_id": SessionId("sess_secret"),
        "ssrc": Ssrc(0xFFFFFFFF),
        "egress_ssrc": Ssrc(2),
        "reporter_ssrc": Ssrc(3),
        "profile": SrtpProfile.AEAD_AES_128_GCM,
        "client_key": bytes(range(28)),
        "server_key": bytes(range(100, 128)),
        "joined_at": 90.0,
        "address": ("2001:db8::1", 65535),
        "address_stated": True,
        "last_seen": 98.5,
        "packets_received": 1,
        "bytes_received": 2,
        "packets_rejected": 3,
        "packets_forwarded": 4,
        "extensions": ExtensionIds(None, 14),
        **fields,
    }
    return MediaPeer(**given_fields)


RULES = ChannelRules(max_speakers=3, floor_control=True, floor_holder=UserId("ann"))
PEER = make_peer()
MESSAGES: list[Message] = [
    Begin(MediaSettings(peer_timeout_ms=1, workers=3), DEFAULT_SPEAKING),
    Go(),
    Open(PeerFacts.of(PEER, 100.0), RULES),
    Open(PeerFacts.of(make_peer(address=None, last_seen=None), 100.0), ChannelRules()),
    Close(7, farewell=True),
    SetRules(ChannelId("ä.b"), RULES),
    Rekey.of(PEER),
    Stop(),
    Ready(),
    Report((PeerReport.of(PEER, 100.0),), {"received": 2**40}, 1.5, 2**33),
    Speaking(7, speaking=True, level_db=-127),
    KeysWorn(7),
    LogLine("error", "datagram_failed", {"exception": "Traceback…\n"}),
]


def plain(message: Message) -> object:
    """What tells a message from another; what holds mutable parts is compared by them."""
    return attrs.asdict(message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    (parsed,) = FrameReader().feed(serialize(message))
    assert type(parsed) is type(message)
    assert plain(parsed) == plain(message)


@given(st.lists(st.integers(1, 400)))
def test_messages_come_out_in_order_however_they_are_cut(cuts: list[int]) -> None:
    stream = b"".join(map(serialize, MESSAGES))
    reader, heard = FrameReader(), []
    for cut in [*cuts, len(stream)]:
        heard += list(reader.feed(stream[:cut]))
        stream = stream[cut:]
    assert [plain(message) for message in heard] == [plain(message) for message in MESSAGES]


def frame(value: object) -> bytes:
    body: bytes = msgpack.packb(value)
    return struct.pack("!I", len(body)) + body


HOSTILE = {
    "too long": struct.pack("!I", messages.FRAME_BYTES_MAX + 1),
    "not msgpack": struct.pack("!I", 1) + b"\xc1",
    "not a pair": frame(5),
    "an unknown name": frame(["System", {}]),
    "a name that is no text": frame([{}, {}]),
    "a field is missing": frame(["Close", {"peer_id": 1}]),
    "a field is of another type": frame(["Close", {"peer_id": "1", "farewell": True}]),
    "a number for a truth": frame(["Close", {"peer_id": 1, "farewell": 1}]),
    "text for bytes": frame(["Rekey", {"peer_id": 1, "rekeys": 1, "client_key": "k", "server_key": b"k"}]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_ends_the_reading(data: bytes) -> None:
    with pytest.raises(MessageError):
        list(FrameReader().feed(data))


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    reader = FrameReader()
    try:
        list(reader.feed(data))
    except MessageError:
        pass


def test_keys_do_not_show() -> None:
    for message in (Rekey.of(PEER), Open(PeerFacts.of(PEER, 100.0), RULES)):
        assert "_key" not in repr(message)
        assert repr(PEER.client_key)[2:-1] not in repr(message)


def test_a_worker_makes_the_same_peer_on_its_own_clock_and_without_its_session() -> None:
    peer = PeerFacts.of(PEER, 100.0).make_peer(1000.0)
    assert (peer.joined_at, peer.last_seen) == (990.0, 998.5)
    assert peer.session_id == ""
    # The rest is the gateway's to know, or the worker's to find out.
    apart = {"joined_at", "last_seen", "session_id", "keys_since", "quality", "is_ended", "rekey_cause"}
    same = {field.name for field in attrs.fields(MediaPeer)} - apart
    assert {name: getattr(peer, name) for name in same} == {name: getattr(PEER, name) for name in same}


def test_a_report_brings_a_peer_up_to_date() -> None:
    told = make_peer(last_seen=10.0, address=("192.0.2.1", 5), packets_received=9, packets_forwarded=8)
    peer = make_peer()
    PeerReport.of(told, 12.0).tell(peer, 200.0)
    assert (peer.last_seen, peer.address) == (198.0, ("192.0.2.1", 5))
    assert (peer.packets_received, peer.packets_forwarded) == (9, 8)
    assert isinstance(peer.quality, PeerQuality)


def test_a_report_of_silence_takes_nothing_back() -> None:
    peer = make_peer()
    PeerReport.of(make_peer(last_seen=None, address=None), 12.0).tell(peer, 200.0)
    assert (peer.last_seen, peer.address) == (98.5, PEER.address)


def test_a_report_on_older_keys_says_nothing_of_newer() -> None:
    report = PeerReport.of(make_peer(keys_taken=True), 1.0)
    renewed = make_peer(rekeys=1, keys_taken=False)
    report.tell(renewed, 1.0)
    assert not renewed.keys_taken
    theirs = make_peer(keys_taken=True)
    Rekey.of(renewed).apply(theirs, 5.0)
    assert (theirs.rekeys, theirs.keys_taken, theirs.keys_since) == (1, False, 5.0)
    theirs.keys_taken = True
    PeerReport.of(theirs, 1.0).tell(renewed, 1.0)
    assert renewed.keys_taken


def test_a_full_report_fits_into_a_frame() -> None:
    peer = make_peer(
        packets_received=2**48, bytes_received=2**60, address=("2001:db8:1111:2222:3333:4444:5555:6666", 1)
    )
    counters = {f"counter_{number}": 2**60 for number in range(200)}
    report = Report((PeerReport.of(peer, 100.0),) * messages.REPORT_PEERS_MAX, counters, 1.0, 1)
    assert len(serialize(report)) < messages.FRAME_BYTES_MAX


@pytest.mark.parametrize(
    ("peer_timeout_ms", "worker_timeout_ms", "expected"),
    [(30_000, 5_000, 1.0), (300, 5_000, 0.075), (30_000, 1_000, 0.25)],
)
def test_reports_come_several_times_within_what_is_judged_by_them(
    peer_timeout_ms: int, worker_timeout_ms: int, expected: float
) -> None:
    settings = MediaSettings(peer_timeout_ms=peer_timeout_ms, worker_timeout_ms=worker_timeout_ms)
    assert report_interval_s(settings) == expected
