"""What names a channel, and what a scope is good for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from livechat.error import Forbidden
from livechat.handlers.access import CHAT_SCOPES, check_channel, check_channels, check_scope
from livechat.handlers.auth import Identity
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.requests import ChannelInfo, ChannelList, Focus, Sync, SyncRange
from livechat.protocol.types import ChannelId, UserId

TEAM = ChannelPatterns(("team-*",))


@attrs.frozen
class JobCreate:
    """A body as that of a job."""

    kind: str
    input: Any


OPEN, SHUT = ChannelId("team-a"), ChannelId("den")
NAMING: list[Any] = [
    ChannelInfo(SHUT),
    Focus(SHUT),
    Sync({OPEN: SyncRange(0), SHUT: SyncRange(0)}),
    JobCreate("export_history", {"channel_id": SHUT}),
]
OTHERS: list[Any] = [
    None,
    ChannelList(),
    Focus(None),
    ChannelInfo(OPEN),
    Sync({OPEN: SyncRange(0)}),
    JobCreate("export_history", {"channel_id": OPEN}),
    JobCreate("else", {"channel_id": 5}),
    JobCreate("else", ["channel_id", SHUT]),
    JobCreate("else", None),
]


@pytest.mark.parametrize("request_", NAMING)
def test_a_channel_is_found_wherever_it_is_named(request_: Any) -> None:
    with pytest.raises(Forbidden, match="the token is not good for den"):
        check_channels(TEAM, ChannelInfo(OPEN), request_)
    check_channels(None, request_)


def test_what_names_no_other_channel_is_let_through() -> None:
    check_channels(TEAM, *OTHERS)
    check_channel(TEAM, OPEN)
    check_channel(None, SHUT)
    with pytest.raises(Forbidden):
        check_channel(TEAM, SHUT)


@pytest.mark.parametrize(
    ("scopes", "is_good"), [({"chat"}, True), ({"admin"}, True), ({"publish"}, False), ((), False)]
)
def test_a_session_takes_the_scope_chat_or_admin(scopes: Any, is_good: bool) -> None:
    identity = Identity(UserId("alice"), scopes=frozenset(scopes))
    if is_good:
        check_scope(identity, CHAT_SCOPES)
    else:
        with pytest.raises(Forbidden, match="token: expected the scope admin or chat"):
            check_scope(identity, CHAT_SCOPES)
