"""Owns the composition of a server: it opens everything, wires it, and takes it down again. No global state.

It must not hold logic of its own beyond that.

    open_server
    ├─ store                group commit in a thread of its own
    ├─ services
    │  ├─ jobs              one task each
    │  ├─ reaper            every deadline of the server
    │  ├─ session keeper    tells the session storage of our sessions
    │  ├─ presence          tells those who share a channel
    │  ├─ files             removes those that nobody needs
    │  ├─ logins            removes those that have ended
    │  └─ media             the UDP socket, or who watches the workers
    └─ connections          one nursery per connection
       └─ listener          cancelled first when the server drains
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import TypeVar, Unpack

import attrs
import structlog
import trio

from livechat.accounts.book import Accounts
from livechat.cluster.backplane import MemoryBackplane
from livechat.cluster.keeper import SessionKeeper
from livechat.cluster.sessions import MemorySessionStorage
from livechat.config import Config
from livechat.credentials import Credentials, TokenControls, open_credentials
from livechat.error import ConfigError, LiveError
from livechat.files.blobs import BlobStore
from livechat.files.opening import open_files
from livechat.files.service import FileService
from livechat.front import Front
from livechat.gateway import listener as tcp
from livechat.gateway import reaper
from livechat.gateway.fanout import FanOut
from livechat.gateway.gauging import gather
from livechat.gateway.head import is_loopback
from livechat.gateway.tls import Certificate
from livechat.handlers import lifecycle, presence
from livechat.handlers.announce import announce
from livechat.handlers.attachments import hosts_of
from livechat.handlers.auth import Authenticator
from livechat.handlers.content import ContentFilter, WordFilter
from livechat.handlers.logins import make_logins
from livechat.handlers.media_events import NodeMediaEvents
from livechat.handlers.node import Node
from livechat.handlers.rekey import KeyControls
from livechat.hub.floor import FloorHub
from livechat.hub.presence import PresenceHub
from livechat.hub.speakers import SpeakerHub
from livechat.hub.streams import StreamHub
from livechat.hub.users import UserHub
from livechat.jobs import builtin
from livechat.jobs.desk import JobDesk
from livechat.jobs.kinds import JobHandler, JobKind, JobOptions
from livechat.limits import addresses as limits
from livechat.media.opening import OpenedMediaPlane, bind_media, open_media
from livechat.protocol.events import Announcement
from livechat.protocol.types import Address, ChannelId, Severity
from livechat.protocol.voice_events import ActiveSpeaker
from livechat.store import opening
from livechat.store.base import Store, perform
from livechat.store.location import locate
from livechat.store.operations import TransientMembers
from livechat.telemetry.counters import Gauges
from livechat.telemetry.instruments import Instruments, watch_gc
from livechat.telemetry.statistics import Statistics
from livechat.tokens.issuer import wall_clock_ms
from livechat.tokens.revocations import MemoryRevocations, Revocations

log = structlog.get_logger("livechat.server")

H = TypeVar("H", bound=JobHandler)


@attrs.frozen
class Addresses:
    """Where a server is bound."""

    tcp: tuple[Address, ...]
    """WebSocket and HTTP."""
    udp: Address
    """Media."""
    media: tuple[Address, ...]
    """Media as well, where there are workers: one address each."""


class Server(TokenControls, KeyControls):
    """A running server, as `open_server` yields it."""

    def __init__(
        self,
        config: Config,
        node: Node,
        credentials: Credentials,
        jobs: JobDesk,
        front: Front,
        addresses: Addresses,
        certificate: Certificate | None,
    ) -> None:
        self.config = config
        self.addresses = addresses
        self._front = front
        self._certificate = certificate
        self._node = node
        node.instruments.gauges = self._gauges
        self._credentials = credentials
        self._jobs = jobs
        self._fan_out = FanOut(node)

    @property
    def node_id(self) -> str:
        """This server's name among others."""
        return self._node.node_id

    @property
    def url(self) -> str:
        """The WebSocket URL of the first address."""
        host, port = self.addresses.tcp[0]
        scheme = "ws" if self.config.tls_cert is None else "wss"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/ws"

    def statistics(self) -> Statistics:
        """Return the server's counters by part, and how well media arrives from and at each peer."""
        gauges = self._gauges()
        return {
            "gateway": {
                "connections": gauges.connections,
                "connections_accepted": gauges.accepted,
                "connections_refused": self._front.listener.refused,
                "sessions": gauges.sessions,
                "sessions_parked": gauges.sessions_parked,
                "channels": gauges.channels,
                "subscriptions": gauges.subscriptions,
                "deadlines": len(self._node.deadlines),
                "events_encoded": self._fan_out.encoded,
                "events_delivered": self._fan_out.delivered,
            },
            "media": dict(gauges.relay),
            "peers": {peer.peer_id: peer.quality.measured() for peer in self._node.media.hub},
            "jobs": dict(self._jobs.statistics()),
            "store": attrs.asdict(
                self._node.store.statistics(), filter=lambda field, _: field.name != "commit_latency"
            ),
            "files": attrs.asdict(self._node.files.statistics),
        }

    def _gauges(self) -> Gauges:
        front, relay = self._front, self._node.media.statistics()
        accepted = front.listener.accepted
        return gather(self._node, front.connections, budget=front.pool.budget, accepted=accepted, relay=relay)

    async def announce(
        self,
        title: str,
        body: str = "",
        *,
        url: str | None = None,
        image_url: str | None = None,
        severity: Severity = "info",
        expires_at: int | None = None,
    ) -> Announcement:
        """Tell everybody: who is connected now, the others when they log in or resume.

        Args:
            title: 1-200 characters.
            body: at most 4,000 characters.
            url: where to read more; http or https.
            image_url: a picture to show; http or https.
            expires_at: from when on nobody is told of it any more, in milliseconds since 1970; None: never.

        Raises:
            ProtocolError: a field is not as it must be; the reason names it.
            NotPersisted: the store is away; nobody was told. With the action RETRY the commit may yet prove good,
                and everybody is told then.
        """
        return await announce(
            self._node,
            title,
            body,
            url=url,
            image_url=image_url,
            severity=severity,
            expires_at=expires_at,
        )

    def active_speakers(self, channel_id: str) -> list[ActiveSpeaker]:
        """List who speaks in a channel now, the last to begin first; at most 32."""
        return self._node.speakers.active(ChannelId(channel_id))

    async def store_works(self) -> bool:
        """Tell whether a row went through the store and back, within the last second."""
        return (await self._node.readiness.verdict()).store_works

    def add_job_handler(self, kind: str, handler: JobHandler, **options: Unpack[JobOptions]) -> None:
        """Do jobs of a kind from now on; those that wait for it since an earlier start are started.

        Args:
            kind: 1-64 letters, digits or `_ . : @ -`.
            handler: an async generator function of a `JobContext` that yields `Progress`, `Partial` and at last
                `Result`. A `LiveError` that it raises is told to the owner, anything else is logged.
            options: see `JobOptions`.

        Raises:
            ValueError, TypeError: one of these is not as it must be, or the kind is there already.
        """
        self._jobs.add_kind(JobKind(kind, handler, **options))

    def job(self, kind: str, **options: Unpack[JobOptions]) -> Callable[[H], H]:
        """Decorate the handler of a kind of jobs; see `add_job_handler`."""

        def register(handler: H) -> H:
            self.add_job_handler(kind, handler, **options)
            return handler

        return register

    def hurry(self) -> None:
        """End a drain that is under way, or that comes, without waiting for clients to go or to answer."""
        self._front.hurry()

    async def reload(self) -> bool:
        """Read again the certificate, and the files with the keys of tokens and unwanted words; what SIGHUP does.

        The server goes on meanwhile. A file that cannot be used is logged, and what was read from it before stays.

        Returns:
            Whether all is now as the files say; False as well if there is no file.
        """
        reloads: list[Callable[[], bool]] = []
        if self._certificate is not None:
            reloads.append(self._certificate.reload)
        if self._credentials.has_files:
            reloads.append(self._credentials.reload)
        content_filter = self._node.content_filter
        if isinstance(content_filter, WordFilter) and content_filter.path is not None:
            reloads.append(content_filter.reload)
        if not reloads:
            log.info("nothing to reload")
        outcomes = [await trio.to_thread.run_sync(reload) for reload in reloads]
        return bool(outcomes) and all(outcomes)

    @property
    def accounts(self) -> Accounts:
        """The built-in accounts, to make, list, change and remove them.

        Raises:
            ConfigError: they are switched off: `accounts.enabled` or `auth.mode` says so, or the authenticator is
                the embedder's own.
        """
        if self._node.logins is None:
            raise ConfigError("accounts.enabled: this server has no accounts of its own")
        return self._node.logins.accounts

    # --- what open_server runs ------------------------------------------------------------------------

    async def _start(self) -> None:
        """Make the hubs follow the backplane, and write the leaves that a crash left unwritten."""
        self._node.backplane.subscribe(self._fan_out.deliver)
        self._node.deadlines.schedule(self._node.now(), self._node.rates.sample)
        try:
            await self._jobs.start()
            if self._node.logins is not None:
                await self._node.logins.start()
            transient = await perform(self._node.store, TransientMembers())
        except LiveError as exc:
            raise ConfigError(f"the store does not answer: {exc.reason}") from exc
        for channel_id, user_id in transient:
            lifecycle.submit_leave(self._node, channel_id, user_id)

    def _end_sessions(self) -> None:
        """End what is still parked; the store's own closing then writes the leaves that this causes."""
        for session in list(self._node.users):
            lifecycle.end_session(self._node, session, "shutdown")


OpenStore = Callable[[Config], AbstractAsyncContextManager[Store]]
"""Opens the store of a server; leaving the context writes what it has taken, and closes it."""


def _open_store(config: Config) -> AbstractAsyncContextManager[Store]:
    settings = config.store
    return opening.open_store(
        settings.url,
        config.data_dir,
        timeout_s=settings.timeout_ms / 1000,
        queue_max=settings.queue_max,
        synchronous=settings.synchronous,
    )


@asynccontextmanager
async def open_server(
    config: Config | None = None,
    *,
    authenticator: Authenticator | None = None,
    content_filter: ContentFilter | None = None,
    revocations: Revocations | None = None,
    open_store: OpenStore = _open_store,
    blobs: BlobStore | None = None,
) -> AsyncGenerator[Server]:
    """Run a server while the block runs. Its addresses are bound once the block is entered.

    Leaving the block drains: no new connections, RECONNECT to all, then close (4003) after `drain_ms` at most.
    Leaving it by an exception or by cancellation does not wait for clients, but still closes every
    connection properly, within `close_timeout_ms`, and writes what the store has taken.

    Args:
        config: the defaults, if left out.
        authenticator: decides who a token speaks for; as `config.auth` says, if left out.
        content_filter: decides what may be said; if left out, a `WordFilter` where `chat.words_file` is set.
        revocations: knows which tokens count no more; this process alone, and as long as it runs, if left out.
        open_store: where channels and messages are kept; where `config.store` says, if left out.
        blobs: where the bytes of files are kept; in `config.data_dir`, if left out.

    Raises:
        ConfigError: a setting is wrong, a port is taken, a file cannot be used.
    """
    config = config if config is not None else Config()
    config.check()
    if revocations is None:
        revocations = MemoryRevocations(wall_clock_ms)
    certificate = _load_certificate(config)
    if content_filter is None:
        content_filter = await _load_words(config)
    instruments = Instruments()
    with ExitStack() as stack:
        stack.enter_context(watch_gc(instruments.counters.gc_pauses))
        tcp_sockets, addresses, udp_sockets = await _bind(config, stack)
        open_plane = partial(open_media, config.media, config.speaking, udp_sockets, config.advertise_host)
        async with open_store(config) as store, open_plane(store.give_way) as plane:
            is_exposed = not all(is_loopback(host) for host, _ in addresses)
            # In a thread: it may derive a key, which is slow on purpose.
            load_keys = partial(open_credentials, config, authenticator=authenticator, is_exposed=is_exposed)
            credentials = await trio.to_thread.run_sync(load_keys)
            backplane = MemoryBackplane()
            location = locate(config.store.url, config.data_dir)
            counters = instruments.counters.jobs
            jobs = JobDesk(store, backplane, config.jobs, config.data_dir / "jobs", location, counters)
            files = stack.enter_context(open_files(config.files, store, config.store.url, config.data_dir, blobs))
            node = _Parts(
                store, backplane, plane, jobs, files, credentials, revocations, content_filter, instruments
            ).make_node(config)
            plane.subscribe(NodeMediaEvents(node))
            node.hosts = hosts_of(addresses)
            builtin.register(jobs, node)
            front = Front(config, node, jobs, tcp_sockets, certificate)
            bound = Addresses(addresses, plane.addresses[0], plane.addresses)
            server = Server(config, node, credentials, jobs, front, bound, certificate)
            await server._start()
            # Only now: by here the secret is known to be fit for these addresses, and the store answers.
            front.listen()
            try:
                log.info("listening", tcp=addresses, udp=plane.addresses, node_id=node.node_id)
                async with _run(server, plane.run):
                    yield server
            except BaseExceptionGroup as group:
                # The nurseries are ours, so they must not show in what the caller's own block raised.
                raise _unwrap(group, nurseries=2) from None
            finally:
                server._end_sessions()
                log.info("stopped", node_id=node.node_id)


def _load_certificate(config: Config) -> Certificate | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Certificate(config.tls_cert, config.tls_key)


async def _load_words(config: Config) -> WordFilter | None:
    if config.chat.words_file is None:
        return None
    # In a thread: many words take a while.
    load = partial(WordFilter.load, config.chat.words_file, config.chat.words_action)
    return await trio.to_thread.run_sync(load)


async def _bind(
    config: Config, stack: ExitStack
) -> tuple[list[socket.socket], tuple[Address, ...], list[socket.socket]]:
    """Bind all sockets, TCP's and media's; the stack closes them.

    Returns:
        TCP's, where those are bound, media's.

    Raises:
        ConfigError: a name is unknown, a port is taken.
    """
    # In a thread: looking up a name may take long.
    tcp_sockets = await trio.to_thread.run_sync(tcp.bind, config.host, config.port)
    for sock in tcp_sockets:
        stack.callback(sock.close)
    addresses = tcp.addresses(tcp_sockets)
    udp_host = config.udp_host or addresses[0][0]
    return tcp_sockets, addresses, stack.enter_context(bind_media(config.media, udp_host, config.udp_port))


def _unwrap(exc: BaseException, *, nurseries: int) -> BaseException:
    """Take off the groups that so many nurseries put around a lone exception, and no group of its own."""
    for _ in range(nurseries):
        if isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
            exc = exc.exceptions[0]
    return exc


@asynccontextmanager
async def _run(server: Server, run_media: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Hold the nursery tree; see the module."""
    async with trio.open_nursery() as services:
        services.start_soon(server._fan_out.run)
        services.start_soon(server._jobs.run)
        services.start_soon(reaper.run, server._node.deadlines)
        services.start_soon(server._node.keeper.run)
        services.start_soon(presence.run, server._node)
        services.start_soon(run_media)
        services.start_soon(server._node.files.run)
        if server._node.logins is not None:
            services.start_soon(server._node.logins.run)
        async with trio.open_nursery() as connections:
            accepting = trio.CancelScope()

            async def accept() -> None:
                with accepting:
                    await server._front.listener.run(connections)

            connections.start_soon(accept)
            yield
            accepting.cancel()
            await server._front.drain(connections.cancel_scope)
        services.cancel_scope.cancel()


@attrs.frozen
class _Parts:
    """What a node is made of that was opened for it."""

    store: Store
    backplane: MemoryBackplane
    media: OpenedMediaPlane
    jobs: JobDesk
    files: FileService
    credentials: Credentials
    revocations: Revocations
    content_filter: ContentFilter | None
    instruments: Instruments

    def make_node(self, config: Config) -> Node:
        node_id = config.node_id or f"node_{secrets.token_hex(4)}"
        heartbeat_s = config.gateway.heartbeat_interval_ms / 1000
        # Outlives a missed touch; what is parked is touched as well, until its own window is over.
        sessions = MemorySessionStorage(config.gateway.resume_window_ms / 1000 + 3 * heartbeat_s)
        users = UserHub()
        node = Node(
            node_id=node_id,
            store=self.store,
            backplane=self.backplane,
            sessions=sessions,
            keeper=SessionKeeper(sessions, users, node_id, touch_interval_s=heartbeat_s),
            users=users,
            presence=PresenceHub(config.chat.presence_grace_ms / 1000),
            media=self.media,
            floors=FloorHub(config.floor),
            streams=StreamHub(config.chunks),
            jobs=self.jobs,
            authenticator=self.credentials.authenticator,
            issuer=self.credentials.issuer,
            revocations=self.revocations,
            auth=config.auth,
            allowed_origins=config.gateway.allowed_origins,
            trusted_proxies=config.gateway.trusted_proxies,
            limits=config.chat,
            files=self.files,
            resume_window_s=config.gateway.resume_window_ms / 1000,
            media_keys_in_clear=config.media.keys_in_clear,
            media_overlap_s=config.media.rekey_overlap_ms / 1000,
            rekey_after_s=config.media.rekey_after_ms / 1000,
            addresses=limits.Addresses(config.addresses, config.gateway.trusted_proxies),
            content_filter=self.content_filter,
            speakers=SpeakerHub(config.speaking.event_interval_ms / 1000),
            instruments=self.instruments,
        )
        node.logins = make_logins(node, config.accounts)
        return node
