from __future__ import annotations

from typing import Any

import attrs

from livechat.client.payloads import structure_untrusted
from livechat.client.state import ANNOUNCEMENTS_KEPT, ClientState
from livechat.protocol.events import (
    Announcement,
    ChannelChange,
    ChannelDetails,
    ChannelJoined,
    Ready,
    Resumed,
    SettingsEvent,
    UnreadEvent,
    UserPresence,
)
from livechat.protocol.types import AnnouncementId, UserId
from tests.support import fake_gateway as fake
from tests.support.client_events import BOB, DEN, HALL, ME, change, message


def announcement(name: str) -> Announcement:
    return Announcement(AnnouncementId(name), "title", "body", "info", 1)


def new(*channels: dict[str, Any], **fields: Any) -> ClientState:
    state = ClientState(messages_kept=3)
    state.ready(structure_untrusted(fake.ready(*channels, **fields), Ready))
    return state


def test_ready_tells_of_channels() -> None:
    stated = fake.channel("den", 9, unread=2, read_seq=6, mention_count=1, role="owner", member_count=4)
    channel = new(stated | {"last_message": fake.message(8)}).channels[DEN]
    assert (channel.channel_name, channel.role, channel.member_count) == ("Den", "owner", 4)
    assert (channel.last_seq, channel.read_seq, channel.unread, channel.mention_count) == (9, 6, 2, 1)
    assert channel.last_message is not None
    assert channel.last_message.seq == 8


def test_messages_of_others_are_unread_and_ones_own_are_not() -> None:
    state = new(fake.channel("den", 9))
    channel = state.channels[DEN]
    state.apply(message(10, mentions=(ME,)))
    state.apply(message(11, mentions=(BOB,)))
    assert (channel.unread, channel.mention_count, channel.last_seq) == (2, 1, 11)
    state.apply(message(12, author_id=ME))
    assert (channel.unread, channel.mention_count, channel.read_seq) == (0, 0, 12)


def test_system_messages_do_not_count() -> None:
    state = new(fake.channel("den", 9))
    state.apply(attrs.evolve(message(10), message_type="SYSTEM"))
    assert state.channels[DEN].unread == 0


def test_the_newest_messages_are_kept() -> None:
    state = new(fake.channel("den", 0))
    for seq in range(1, 6):
        state.apply(message(seq))
    channel = state.channels[DEN]
    assert [each.seq for each in channel.messages] == [3, 4, 5]
    assert channel.last_message == message(5)


def test_an_older_message_that_is_handed_over_later_is_not_the_last() -> None:
    state = new(fake.channel("den", 9) | {"last_message": fake.message(9)})
    state.apply(message(8))
    last = state.channels[DEN].last_message
    assert last is not None
    assert last.seq == 9


def test_reading_elsewhere_counts_here() -> None:
    state = new(fake.channel("den", 9))
    state.apply(message(10))
    state.apply(message(11))
    state.apply(UnreadEvent(DEN, unread=1, read_seq=10, last_seq=11))
    assert (state.channels[DEN].unread, state.channels[DEN].read_seq) == (1, 10)


def test_of_a_channel_that_is_not_subscribed_the_server_counts() -> None:
    state = new(fake.channel("den", 9))
    state.channels[DEN].is_subscribed = False
    state.apply(UnreadEvent(DEN, unread=7, read_seq=9, last_seq=16))
    assert (state.channels[DEN].unread, state.channels[DEN].last_seq) == (7, 16)


def test_members_are_counted_from_where_the_server_counted() -> None:
    state = new(fake.channel("den", 9, member_count=5))
    state.apply(change("join", 8))
    assert state.channels[DEN].member_count == 5
    state.apply(change("join", 10))
    state.apply(change("join", 11))
    state.apply(change("leave", 12))
    assert state.channels[DEN].member_count == 6


def test_updates_are_taken() -> None:
    state = new(fake.channel("den", 9))
    state.apply(attrs.evolve(change("update"), channel=ChannelChange("The Den", 5, True)))
    state.apply(attrs.evolve(change("update", user_id=BOB), role="owner"))
    assert (state.channels[DEN].channel_name, state.channels[DEN].role) == ("The Den", "member")
    state.apply(attrs.evolve(change("update", user_id=ME), role="moderator"))
    assert state.channels[DEN].role == "moderator"


def test_a_new_member_has_read_everything() -> None:
    state = new()
    state.joined(ChannelJoined(DEN, "ptt", [], 12))
    channel = state.channels[DEN]
    assert (channel.mode, channel.unread, channel.read_seq, channel.last_seq) == ("ptt", 0, 12, 12)
    state.apply(message(13))
    state.joined(ChannelJoined(DEN, "ptt", [], 13))
    assert channel.unread == 1, "joining again, with voice say, is not reading"


def test_a_description_that_events_have_overtaken_tells_only_what_they_do_not() -> None:
    state = new(fake.channel("den", 9))
    state.apply(message(10))
    stated = fake.channel("den", 9, channel_name="Renamed") | {"capacity": 5, "created_at": 1, "peers": []}
    state.describe(structure_untrusted(stated, ChannelDetails))
    channel = state.channels[DEN]
    assert (channel.channel_name, channel.last_seq, channel.unread) == ("Renamed", 10, 1)


def test_resumed_brings_the_counts() -> None:
    state = new(fake.channel("den", 9))
    state.apply(message(10))
    done = fake.resumed(den=fake.resumed_channel(12, unread=2, read_seq=10), elsewhere=fake.resumed_channel(1))
    state.resumed(structure_untrusted(done, Resumed))
    channel = state.channels[DEN]
    assert (channel.last_seq, channel.unread, channel.read_seq) == (12, 2, 10)
    assert set(state.channels) == {DEN}


def test_presence_is_who_is_there() -> None:
    state = new(presence={"bob": "AWAY"})
    assert state.presence == {BOB: UserPresence(BOB, "AWAY", None)}
    cyd = UserPresence(UserId("cyd"), "ONLINE", 5, "here")
    state.apply(cyd)
    state.apply(UserPresence(BOB, "OFFLINE", 9))
    assert state.presence == {"cyd": cyd}
    again = fake.ready(presence={"cyd": "AWAY", "bob": "ONLINE"})
    state.ready(structure_untrusted(again, Ready))
    assert state.presence[UserId("cyd")] == UserPresence(UserId("cyd"), "AWAY", 5, "here")
    assert set(state.presence) == {"bob", "cyd"}


def test_announcements_are_new_only_once_and_the_newest_are_kept() -> None:
    state = ClientState(messages_kept=3)
    stated = structure_untrusted(fake.ready(), Ready)
    known = attrs.evolve(stated, announcements=[announcement("a"), announcement("b")])
    assert state.ready(known) == known.announcements
    assert state.ready(attrs.evolve(stated, announcements=[announcement("b"), announcement("c")])) == [
        announcement("c")
    ]
    for number in range(ANNOUNCEMENTS_KEPT):
        state.apply(announcement(str(number)))
    assert list(state.announcements) == [str(number) for number in range(ANNOUNCEMENTS_KEPT)]


def test_settings_are_as_the_server_last_said() -> None:
    state = new(settings={"theme": "dark"})
    assert state.settings == {"theme": "dark"}
    state.apply(SettingsEvent({"theme": "light"}))
    assert state.settings == {"theme": "light"}


def test_events_of_channels_that_one_is_not_in_change_nothing() -> None:
    state = new(fake.channel("den", 9))
    state.apply(message(1, HALL))
    state.apply(change("join", 2, channel_id=HALL))
    state.apply(UnreadEvent(HALL, 1, 1, 1))
    state.read(HALL, 1, 0)
    state.leave(HALL)
    assert set(state.channels) == {DEN}
