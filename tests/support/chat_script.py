"""What users and devices may do, as data: a script can be printed, repeated and made shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from tests.support.client import (
    CREATE,
    DELETE,
    FOCUS,
    HISTORY,
    INFO,
    JOIN,
    LEAVE,
    MEMBER_ADD,
    MEMBER_LIST,
    MEMBER_REMOVE,
    READ,
    SUBSCRIBE,
    SYNC,
    TYPING,
    UNSUBSCRIBE,
    UPDATE,
)

USERS: Final = ("ann", "bob", "cyd", "dan")
DEVICES: Final = 3
"""Of each user; all but the first have small receive buffers."""
CHANNELS: Final[dict[str, dict[str, Any]]] = {
    "lobby": {"private": False, "durable": True},
    "den": {"private": True, "durable": True},
    "flash": {"private": False, "durable": False},
}


@attrs.frozen
class Say:
    """Send a message."""

    device: str
    channel: str
    nonce: str | None = None
    """`fresh`: one that was never used."""
    text: str = "fresh"
    """`fresh`: one that was never said."""
    mention: str | None = None
    is_silent: bool = False
    """Ask for no ACK; the nonce is fresh then, so that an ERROR can be told from others."""
    wait: bool = True


@attrs.frozen
class Ask:
    """Send any other request of a channel."""

    device: str
    channel: str
    op: int
    wait: bool = True
    user: str = USERS[0]
    """Whom it is about."""
    role: str | None = None
    flag: bool = False
    back: int = 0
    """How far before the newest seq; -1: beyond it."""
    size: int | None = None
    """How many are asked for."""


@attrs.frozen
class Come:
    """Connect, and IDENTIFY or RESUME."""

    device: str
    cursors: str = "all"
    """What RESUME states: `all`, `none`, `some`, `less` than was seen, or `more` than there is."""
    wait: bool = True
    leaves_at_once: bool = False
    """Lose the connection before anything is read."""


@attrs.frozen
class Go:
    """End the connection."""

    device: str
    how: str = "cut"
    """`cut` the TCP connection, `fin` its sending half first, close with `1000` or `3000`."""
    is_noticed: bool = True
    """Wait until the server has noticed."""


@attrs.frozen
class Pause:
    """Read nothing until the next `Quiet`."""

    device: str


@attrs.frozen
class Flood:
    """Send many messages without waiting in between."""

    device: str
    channel: str
    count: int
    chars: int


@attrs.frozen
class Quiet:
    """Wait until everything has been answered and told; then compare with the model."""


@attrs.frozen
class Expire:
    """Let the time pass in which parked sessions can be resumed."""


Step = Say | Ask | Come | Go | Pause | Flood | Quiet | Expire


@attrs.frozen
class Script:
    """Who takes part, and what happens."""

    cast: list[str]
    """The devices, all connected at first; the user of the first one owns the channels, all others are members."""
    steps: list[Step]


def request_of(step: Ask, last_seq: int, number: int) -> dict[str, Any]:
    """Return what a step asks.

    Args:
        last_seq: the newest seq of the channel, as far as is known.
        number: makes names unique.
    """
    at = last_seq + 1000 if step.back < 0 else max(0, last_seq - step.back)
    d: dict[str, Any] = {"channel_id": step.channel}
    if step.op == CREATE:
        d |= CHANNELS[step.channel]
    elif step.op == READ:
        d["seq"] = at
    elif step.op == TYPING:
        d["typing"] = step.flag
    elif step.op == FOCUS and step.flag:
        d["channel_id"] = None
    elif step.op == HISTORY:
        d |= {"before_seq" if step.flag else "after_seq": at} if step.back else {}
        d["limit"] = step.size or 20
    elif step.op == SYNC:
        wanted = {"after": at} | ({"before": at + step.size} if step.size is not None else {})
        d = {"channels": {channel: wanted for channel in CHANNELS if channel == step.channel or step.flag}}
    elif step.op in (MEMBER_ADD, MEMBER_REMOVE):
        d |= {"user_id": step.user} | ({"role": step.role} if step.role is not None else {})
        d |= {"ban": step.flag} if step.op == MEMBER_REMOVE else {}
    elif step.op == UPDATE:
        d |= {"channel_name": f"name {number}", "private": step.flag}
    return d


def cursors_of(
    kind: str, seqs: Mapping[str, int], since: Mapping[str, int]
) -> tuple[dict[str, int] | None, set[str]]:
    """Return what RESUME is to state, and the channels of which that is more than there is.

    Args:
        kind: as in `Come`.
        seqs: the newest seq that was heard of each channel.
        since: the first.
    """
    first = min(seqs, default="")
    if kind == "none":
        return None, set()
    if kind == "some":
        return {channel: seq for channel, seq in seqs.items() if channel != first}, set()
    if kind == "less":
        return {channel: max(since[channel], seq - 3) for channel, seq in seqs.items()}, set()
    if kind == "more":
        return {channel: seq + 10_000 * (channel == first) for channel, seq in seqs.items()}, {first} & set(seqs)
    return dict(seqs), set()


_roles = st.sampled_from([None, None, "member", "moderator"])
_wait = st.sampled_from([True, False, False])
_backs = st.sampled_from([0, 1, 2, 5, 1000, -1])
_flags = st.booleans()
_cursors = st.sampled_from(["all", "all", "none", "some", "less", "more"])
_ways = st.sampled_from(["cut", "cut", "cut", "fin", "fin", "3000", "3000", "1000"])


class _Kinds:
    """Strategies for the steps of one script, grouped by what is taken into it or left out together.

    Args:
        cast: the devices that do anything.
        places: the channels in which it happens.
    """

    def __init__(self, cast: Sequence[str], places: Sequence[str]) -> None:
        self._devices = devices = st.sampled_from(cast)
        self._channels = channels = st.sampled_from(places)
        self._users = users = st.sampled_from(sorted({name.split("/")[0] for name in cast}))
        self.say = st.builds(
            Say,
            devices,
            channels,
            nonce=st.sampled_from([None, "fresh", "n1", "n2"]),
            text=st.sampled_from(["fresh", "fresh", "same", "other", ""]),
            mention=st.none() | users,
            is_silent=st.sampled_from([False, False, True]),
            wait=_wait,
        )
        self.come = st.builds(
            Come, devices, _cursors, wait=_wait, leaves_at_once=st.sampled_from([False, False, False, True])
        )
        self.go = st.builds(Go, devices, _ways, _flags)
        self.always = [*[self.say] * 3, *[self.come] * 3, *[self.go] * 2, *[st.builds(Quiet)] * 2]
        ask = self._ask
        self.others: list[list[st.SearchStrategy[Any]]] = [
            [ask(JOIN), ask(JOIN), ask(LEAVE)],
            [ask(READ, back=_backs), ask(INFO, MEMBER_LIST)],
            [ask(HISTORY, SYNC, back=_backs, size=st.sampled_from([None, 1, 3, 100]), flag=_flags)],
            [ask(SUBSCRIBE, UNSUBSCRIBE)],
            [ask(TYPING, FOCUS, flag=_flags)],
            [ask(MEMBER_ADD, user=users, role=_roles), ask(MEMBER_REMOVE, user=users, flag=_flags)],
            [ask(UPDATE, flag=_flags)],
            [ask(CREATE), ask(DELETE)],
            [st.builds(Pause, devices)],
            [st.builds(Flood, devices, channels, st.sampled_from([3, 12, 40, 300]), st.just(1))],
            [st.builds(Flood, devices, channels, st.just(60), st.just(4000))],
            [st.builds(Expire)],
        ]

    def _ask(self, *ops: int, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Ask]:
        return st.builds(Ask, self._devices, self._channels, st.sampled_from(ops), _wait, **fields)

    def absence(self, steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
        """A device is away while this and that happens."""
        return st.builds(
            lambda before, go, between, come: [*before, go, *between, attrs.evolve(come, device=go.device)],
            st.sampled_from([[], [Quiet()]]),
            self.go,
            st.lists(steps, max_size=6),
            self.come,
        )

    def haste(self, steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
        """A device asks this and that, and goes over to another connection without waiting."""
        return st.builds(
            lambda asked, come: [
                *[
                    attrs.evolve(one, device=come.device, wait=False)
                    for one in asked
                    if isinstance(one, Ask | Say)
                ],
                come,
            ],
            st.lists(steps, min_size=1, max_size=4),
            self.come,
        )

    def stall(self) -> st.SearchStrategy[list[Step]]:
        """A device reads nothing while very much is said, and goes on afterwards."""
        return st.builds(
            lambda flood, come: [Pause(come.device), flood, Quiet(), come],
            st.builds(Flood, self._devices, self._channels, st.just(120), st.just(4000)),
            self.come,
        )

    def break_of_membership(self, steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
        """A user leaves a channel, or is removed, and comes back after this and that."""
        leave, remove = self._ask(LEAVE), self._ask(MEMBER_REMOVE, user=self._users, flag=_flags)

        def comes_back(end: Ask, between: list[Step], is_added: bool, wait: bool) -> list[Step]:
            own = end.device if end.op == LEAVE else f"{end.user}/0"
            back = Ask(own, end.channel, JOIN, wait)
            if is_added and end.op == MEMBER_REMOVE:
                back = attrs.evolve(back, device=end.device, op=MEMBER_ADD, user=end.user)
            return [end, *between, back]

        return st.builds(comes_back, leave | remove, st.lists(steps, max_size=3), _flags, _wait)


_CASTS: Final = ((1, 2), (2, 2), (1, 3), (1, 2, 1), (2, 2, 1), (1, 1, 1, 1), (1, 2, 2, 1), (3, 2, 1))
"""How many devices each user has: few, so that much happens to each."""
_PLACES: Final = (
    ("lobby",),
    ("den",),
    ("flash",),
    ("lobby", "flash"),
    ("den", "flash"),
    ("lobby", "den", "flash"),
)


@st.composite
def scripts(draw: st.DrawFn, steps_min: int, steps_max: int) -> Script:
    """Draw a script of about so many steps, in which some kinds of steps meet often and others do not occur."""
    counts = draw(st.sampled_from(_CASTS))
    cast = [f"{user}/{number}" for user, count in zip(USERS, counts, strict=False) for number in range(count)]
    kinds = _Kinds(cast, draw(st.sampled_from(_PLACES)))
    others = draw(st.lists(st.sampled_from(kinds.others), min_size=2, max_size=6, unique_by=id))
    step = _any_of([*kinds.always, *[strategy for group in others for strategy in group]])
    weights = {
        step.map(lambda one: [one]): 12,
        kinds.absence(step): 6,
        kinds.haste(step): 4,
        kinds.break_of_membership(step): 4,
        kinds.stall(): draw(st.sampled_from([0, 0, 2])),  # takes its time
    }
    phrase = _any_of([strategy for strategy, weight in weights.items() for _ in range(weight)])
    phrases = draw(st.lists(phrase, min_size=steps_min // 2, max_size=steps_max))
    return Script(cast, [step for steps in phrases for step in steps][:steps_max])


def _any_of(strategies: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Choose one, the more often the more often it is listed (`one_of` leaves doubles out)."""
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)
