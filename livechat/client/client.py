"""Owns what applications use: `open_client` and the client it yields.

It must not decide anything about the protocol (see `session`), nor run tasks (see `runner`).
"""

from __future__ import annotations

import random
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final, Literal, cast

import trio

from livechat.client import link
from livechat.client.api import Requests
from livechat.client.error import ClientClosed
from livechat.client.events import JobGap, SessionEvent, State, StateChanged
from livechat.client.floor import Heard, HeldFloor, hold
from livechat.client.following import JobEvents
from livechat.client.link import Dial, OnPacket, Target
from livechat.client.lone import raise_lone
from livechat.client.runner import Runner, Token, Way
from livechat.client.sent import SendChanged, SentMessage
from livechat.client.session import ClientSession
from livechat.client.settings import ClientSettings
from livechat.client.state import Channel
from livechat.client.subscribers import Subscribers, Subscription
from livechat.client.watching import Chunks, watch
from livechat.protocol.events import (
    Announcement,
    HelloLimits,
    Message,
    MessageCreated,
    UserPresence,
)
from livechat.protocol.jobs import JobEvent
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import Attachment, FloorRequest, MessageCreate
from livechat.protocol.types import ChannelId, FloorIndicator, JobId, SessionId, UserId
from livechat.protocol.voice_events import FloorEvent, SpeakingEvent

Event = SessionEvent | SendChanged
"""What `Client.events` yields."""

HANDSHAKES: Final = frozenset({Op.HEARTBEAT, Op.IDENTIFY, Op.RESUME})
"""What only the client itself sends."""


class Client(Requests):
    """One user's session, kept up over reconnects. Made by `open_client`; its constructor starts nothing.

    What it promises: the events of every channel come in order and once, or a `Gap` says which do not; a message
    is stored at most once, however often it had to be sent.
    """

    def __init__(
        self, way: Way, settings: ClientSettings, user_id: UserId | None, uniform: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._session = ClientSession(
            settings, user_id=user_id, uniform=uniform, can_renew=not isinstance(way.token, str)
        )
        self._subscribers = Subscribers(settings.events_buffered_max, settings.chunk_bytes_buffered_max)
        self._runner = Runner(self._session, way, settings, self._subscribers.publish)
        self._answered = trio.lowlevel.ParkingLot()
        self._floors: set[str] = set()
        """Channels whose floor a block has, or waits for."""
        self._block = trio.CancelScope()
        """The caller's block; cancelled when the client gives up."""

    # --- what there is to see -----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._session.connection

    @property
    def is_online(self) -> bool:
        """Whether there is a session on a connection right now."""
        return self._session.is_online

    @property
    def user_id(self) -> UserId:
        """Who the server says we are."""
        user_id = self._session.state.user_id
        assert user_id is not None, "there is a session once the block is entered"
        return user_id

    @property
    def session_id(self) -> SessionId | None:
        """The session; another one after a reconnect that could not resume."""
        return self._session.session_id

    @property
    def limits(self) -> HelloLimits:
        """The sizes that the server accepts, as it said last."""
        limits = self._session.limits
        assert limits is not None, "there is a session once the block is entered"
        return limits

    @property
    def local_host(self) -> str | None:
        """Our own IP address on the connection, for `MediaAddress`; behind a NAT not what the server sees."""
        return self._runner.local_host

    @property
    def channels(self) -> Mapping[str, Channel]:
        """The channels that the user is in, by id."""
        return MappingProxyType(cast("dict[str, Channel]", self._session.state.channels))

    @property
    def presence(self) -> Mapping[str, UserPresence]:
        """Who shares a channel with the user and is not offline, by id."""
        return MappingProxyType(cast("dict[str, UserPresence]", self._session.state.presence))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The user's own preferences, as stored by the server."""
        return MappingProxyType(self._session.state.settings)

    @property
    def announcements(self) -> tuple[Announcement, ...]:
        """The announcements that came, oldest first; the newest 100."""
        return tuple(self._session.state.announcements.values())

    @property
    def current_channel(self) -> ChannelId | None:
        """The channel on the screen; see `focus`."""
        return self._session.book.focus

    # --- events -------------------------------------------------------------------------------------

    def events(self) -> Subscription[Event]:
        """Iterate over everything that happens from now on; every subscription gets all of it.

        A subscription keeps `ClientSettings.events_buffered_max` events for a reader that is late; past that it
        ends with `SubscriberTooSlow`, and the connection and other subscribers go on.
        """
        return self._subscribers.subscribe(_anything)

    def messages(self, channel_id: str) -> Subscription[Message]:
        """Iterate over the messages of one channel from now on, one's own included.

        That a message is missing (`Gap`) is told by `events` only.
        """

        def convert(event: Event) -> Message | None:
            return event if isinstance(event, Message) and event.channel_id == channel_id else None

        return self._subscribers.subscribe(convert)

    def speaking(self, channel_id: str) -> Subscription[SpeakingEvent]:
        """Iterate over who begins and ends to speak in one channel from now on; `info` lists who does now."""

        def convert(event: Event) -> SpeakingEvent | None:
            return event if isinstance(event, SpeakingEvent) and event.channel_id == channel_id else None

        return self._subscribers.subscribe(convert)

    def job_events(self, job_id: str) -> JobEvents:
        """Iterate over the events of one job of the user's, up to its end: those that came already, then the rest.

        It may be called once `POST /api/v1/jobs` has told the job's id: nothing is missed in between. Over
        reconnects, and over restarts of the server, it goes on where it was; what is missing is told by `events`
        (`JobGap`).
        """
        known = self._session.jobs.kept(JobId(job_id))

        def convert(event: Event) -> JobEvent | JobGap | None:
            return event if isinstance(event, JobEvent | JobGap) and event.job_id == job_id else None

        return JobEvents(known, self._subscribers.subscribe(convert))

    def chunks(self, channel_id: str, *, user_id: str | None = None, stream_id: str | None = None) -> Chunks:
        """Iterate over the live streams of a channel, or some of them, from now on; see `Chunks`.

        Of each stream come its `init` chunk first and then a keyframe, so it may be called at any time. What is
        missing, because we read too slowly or were away, is told in its place (`ChunkGap`).

        Args:
            channel_id: one that the user is in.
            user_id: only those that this user publishes.
            stream_id: only those of this name.
        """
        return watch(self._session.book.streams, self._subscribers.subscribe, channel_id, user_id, stream_id)

    # --- messages -----------------------------------------------------------------------------------

    def post(
        self,
        channel_id: str,
        content: str,
        *,
        message_type: Literal["TEXT", "FILE", "IMAGE"] = "TEXT",
        attachment: Attachment | None = None,
        mentions: Iterable[str] | None = None,
        nonce: str | None = None,
    ) -> SentMessage:
        """Send a message without waiting; it is sent until the server has an answer, over reconnects.

        Messages of one channel keep their order. Every change is a `SendChanged` event.

        Args:
            channel_id: where to; the user must be in it.
            content: the text.
            message_type: what the attachment is.
            attachment: a file that was uploaded before.
            mentions: users to be notified.
            nonce: the same one within 24 h sends nothing again, and answers as the first did; by default random.

        Raises:
            OutboxFull: too many wait for their answer.
            ClientClosed: the client has ended.
            ValueError: a value does not fit.
        """
        self._check_running()
        request = MessageCreate(
            ChannelId(channel_id),
            content,
            message_type,
            attachment,
            nonce if nonce is not None else secrets.token_hex(16),
            None if mentions is None else tuple(UserId(each) for each in mentions),
        )
        sent = SentMessage(request, self._send_changed)
        self._session.post(request, sent.settle, trio.current_time())
        self._subscribers.publish(SendChanged(sent, "pending"))
        self._runner.kick()
        return sent

    async def send_message(
        self,
        channel_id: str,
        content: str,
        *,
        message_type: Literal["TEXT", "FILE", "IMAGE"] = "TEXT",
        attachment: Attachment | None = None,
        mentions: Iterable[str] | None = None,
        nonce: str | None = None,
    ) -> MessageCreated:
        """Send a message and wait until it is stored; `seq` is its place in the channel. See `post`.

        Raises:
            LiveError: the server refused it, or could not store it (`NotPersisted`: rolled back).
            NotSent: it was given up before it was sent.
            OutcomeUnknown: it was given up after it was sent.

        Cancellation:
            It is tried no more; it may be stored or not.
        """
        sent = self.post(
            channel_id,
            content,
            message_type=message_type,
            attachment=attachment,
            mentions=mentions,
            nonce=nonce,
        )
        try:
            return await sent.wait()
        finally:
            self._session.give_up(sent.nonce, "nobody waits for it")

    async def flush(self) -> None:
        """Wait until every message that was posted has its answer."""
        while self._session.unanswered:
            await self._answered.park()

    def _send_changed(self, sent: SentMessage) -> None:
        self._subscribers.publish(SendChanged(sent, sent.state))
        if not self._session.unanswered:
            self._answered.unpark_all()

    # --- live media ---------------------------------------------------------------------------------

    async def post_chunk(
        self,
        channel_id: str,
        stream_id: str,
        chunk_seq: int,
        data: bytes,
        *,
        mime: str,
        keyframe: bool = False,
        init: bool = False,
    ) -> bool:
        """Send a piece of live media; wait for no answer, only for room on the connection.

        What the server refuses is told by `events` (an `Error` of op 29). What had not left when a connection
        ended is dropped. See `send_chunk` for the arguments.

        Returns:
            Whether there was a session to send it in. If not, go on with a keyframe once there is one, and with
            the `init` chunk if it is a new one.

        Raises:
            PayloadTooLarge: it has more data than the server takes.
            ClientClosed: the client has ended.
            ValueError: a value does not fit.

        Cancellation:
            It was not sent.
        """
        request = self._chunk(channel_id, stream_id, chunk_seq, data, mime, keyframe=keyframe, init=init)
        self._check_running()
        await self._runner.wait_room()
        self._check_running()
        is_said = self._session.say(Op.MEDIA_CHUNK, request)
        self._runner.kick()
        return is_said

    # --- push to talk -------------------------------------------------------------------------------

    @asynccontextmanager
    async def floor(
        self, channel_id: str, *, priority: int | None = None, indicator: FloorIndicator = "normal"
    ) -> AsyncGenerator[HeldFloor]:
        """Have the floor of a push-to-talk channel while the block runs: our voice, and no other, is heard.

        It is waited for as long as it takes; where we stand meanwhile, `events` tells (FloorQueuePosInfo). Leaving
        the block gives it back. If it is lost before, the block is cancelled, and `FloorLost` raised.

        Args:
            channel_id: one that the user is in.
            priority: among those who want it; None: `ClientSettings.priority`.
            indicator: what it is for; `emergency` goes before all else.

        Raises:
            FloorDenied: nobody else may wait for it.
            FloorLost: it was taken away; `cause` says why.
            LiveError, ClientError, TooSlowError: it could not be asked for; see `Requests`.
            ValueError: a value does not fit, or this client has the floor, or waits for it, already.

        Cancellation:
            The floor, or the place among those who wait, is given back, within 2 s.
        """
        wanted = FloorRequest(ChannelId(channel_id), priority, indicator)
        if channel_id in self._floors:
            raise ValueError(f"channel_id: this client is about the floor of {channel_id} already")

        def convert(event: Event) -> Heard | None:
            if isinstance(event, StateChanged):
                return event
            return event if isinstance(event, FloorEvent) and event.channel_id == channel_id else None

        self._floors.add(channel_id)
        try:
            async with hold(self, self._subscribers.subscribe(convert), wanted) as held:
                yield held
        finally:
            self._floors.discard(channel_id)

    # --- requests -----------------------------------------------------------------------------------

    async def request(self, op: int, d: Mapping[str, Any] | None = None) -> Any:
        """Send a request of any op, as plain values; return its ACK's data as such.

        Raises: see `Requests`.
        """
        if op in HANDSHAKES:
            raise ValueError(f"op: {op} is the client's own")
        return await self._call(op, dict(d or {}))

    async def _call(self, op: int, payload: Any) -> Any:
        self._check_running()
        answered = trio.Event()
        result: tuple[Any, Exception | None] = (None, None)

        def answer(data: Any, error: Exception | None) -> None:
            nonlocal result
            result = data, error
            answered.set()

        request_id = self._session.request(op, payload, answer, trio.current_time())
        self._runner.kick()
        try:
            with trio.fail_after(self._settings.request_timeout_s):
                await answered.wait()
        finally:
            self._session.withdraw(request_id)
        data, error = result
        if error is not None:
            raise error
        return data

    def _check_running(self) -> None:
        if self.state == "offline":
            raise ClientClosed("the client has ended") from self._runner.failure

    # --- what open_client runs ------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._runner.run()
        finally:
            self._subscribers.end(self._runner.failure)
            self._block.cancel()


@asynccontextmanager
async def open_client(
    url: str,
    token: Token,
    *,
    user_id: str | None = None,
    settings: ClientSettings | None = None,
    tls: ssl.SSLContext | None = None,
    on_packet: OnPacket | None = None,
    dial: Dial = link.dial,
    uniform: Callable[[], float] = random.random,
) -> AsyncGenerator[Client]:
    """Connect to a gateway and keep a session there while the block runs.

    The block is entered once READY has come. It is cancelled if the client has to give up, and `open_client` then
    raises why. Leaving it waits up to `flush_timeout_s` for messages that were posted, and closes with 1000: the
    session is over. Left by an exception or by cancellation it does not wait for messages, but still closes so,
    within `close_timeout_s`.

    Args:
        url: `ws://host:port/ws` or `wss://…`.
        token: who we are; or an async function that fetches one: before each connection, and before the old one
            ends (when four fifths of its life are over, or the server says so), to renew it on the connection. It
            is never asked for two at a time. What it raises ends the client, unless the old one may still hold.
        user_id: who to be, with a shared secret.
        settings: the defaults, if left out.
        tls: for `wss://`; the system's certificates, if left out.
        on_packet: a debug hook: ("in" | "out", packet), tokens and keys masked. What it raises ends the client.
        dial: opens the byte stream; replace it for proxies or Unix sockets.
        uniform: returns a random number from 0 to 1; it spreads the reconnects.

    Raises:
        CannotConnect: the gateway can't be reached, at the start at once, later after `Backoff.tries_max` tries.
        InvalidToken: it does not take the token.
        SessionEnded: it closed the connection for good (4500-4999).
        LiveError: it refused the session for another reason.
        ValueError: the URL is none.
    """
    settings = settings if settings is not None else ClientSettings()
    way = Way(Target.parse(url), token, dial, tls, on_packet)
    client = Client(way, settings, None if user_id is None else UserId(user_id), uniform)
    runner = client._runner
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._run)
            try:
                with client._block:
                    await runner.entered.wait()
                    if runner.failure is None:
                        yield client
                        with trio.move_on_after(settings.flush_timeout_s):
                            await client.flush()
            finally:
                runner.stop()
    except BaseExceptionGroup as group:
        raise_lone(group)
    if runner.failure is not None:
        raise runner.failure


def _anything(event: Event) -> Event:
    return event
