"""Owns the composition of a server: it opens everything, wires it, and takes it down again. No global state.

It must not hold logic of its own beyond that.

    open_server
    ├─ store                group commit in a thread of its own
    ├─ services
    │  ├─ reaper            every deadline of the server
    │  ├─ session keeper    tells the session storage of our sessions
    │  ├─ presence          tells those who share a channel
    │  └─ media relay       the UDP socket
    └─ connections          one nursery per connection
       └─ listener          cancelled first when the server drains
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import Final

import attrs
import structlog
import trio

from livechat.cluster.backplane import MemoryBackplane
from livechat.cluster.keeper import SessionKeeper
from livechat.cluster.sessions import MemorySessionStorage
from livechat.config import Config, check_secret, obtain_secret
from livechat.error import ConfigError, LiveError
from livechat.gateway import listener as tcp
from livechat.gateway import reaper
from livechat.gateway.connection import Connection
from livechat.gateway.fanout import FanOut
from livechat.gateway.head import RequestHead, is_loopback
from livechat.gateway.transport import Transport
from livechat.handlers import lifecycle, presence
from livechat.handlers.announce import announce
from livechat.handlers.auth import Authenticator, SharedSecretAuthenticator
from livechat.handlers.content import ContentFilter, WordFilter
from livechat.handlers.node import Node
from livechat.http.app import create_app
from livechat.http.host import HttpHost, HttpLimits, refuse
from livechat.hub.media import MediaPeerHub
from livechat.hub.presence import PresenceHub
from livechat.hub.users import UserHub
from livechat.media import udp
from livechat.media.plane import UdpMediaPlane
from livechat.media.relay import Relay
from livechat.protocol.events import Announcement, Reconnect
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import Address, Severity
from livechat.store import opening
from livechat.store.base import Store, perform
from livechat.store.operations import TransientMembers

log = structlog.get_logger("livechat.server")

RECONNECT_SHARE: Final = 0.5
"""Clients are asked to come back within this share of the drain window, so that all have gone by its end."""


@attrs.frozen
class Addresses:
    """Where a server is bound."""

    tcp: tuple[Address, ...]
    """WebSocket and HTTP."""
    udp: Address
    """Media."""


class Server:
    """A running server, as `open_server` yields it."""

    def __init__(
        self,
        config: Config,
        node: Node,
        relay: Relay,
        sockets: list[socket.socket],
        addresses: Addresses,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.config = config
        self.addresses = addresses
        self._listener = tcp.Listener(
            sockets,
            self._serve,
            tls=tls,
            head_timeout_s=config.gateway.head_timeout_ms / 1000,
            connections_max=config.gateway.connections_max,
        )
        self._node = node
        self._relay = relay
        self._fan_out = FanOut(node)
        self._connections: set[Connection] = set()
        self._http_scopes: set[trio.CancelScope] = set()
        self._nobody_left = trio.lowlevel.ParkingLot()
        self._drain_scope = trio.CancelScope()
        self._http = HttpHost(
            create_app(node),
            HttpLimits(config.gateway.http_body_bytes, config.gateway.http_idle_ms / 1000),
        )

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

    def statistics(self) -> dict[str, dict[str, float]]:
        """Return the server's counters by part: gateway, media, store."""
        return {
            "gateway": {
                "connections": len(self._connections),
                "connections_accepted": self._listener.accepted,
                "sessions": len(self._node.users),
                "sessions_parked": sum(session.outlet is None for session in self._node.users),
                "channels": len(self._node.channels),
                "subscriptions": sum(len(channel.subscribers) for channel in self._node.channels),
                "deadlines": len(self._node.deadlines),
                "events_encoded": self._fan_out.encoded,
                "events_delivered": self._fan_out.delivered,
            },
            "media": dict(self._relay.statistics()),
            "store": attrs.asdict(self._node.store.statistics()),
        }

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

    def hurry(self) -> None:
        """End a drain that is under way, or that comes, without waiting for clients to go."""
        self._drain_scope.cancel()

    async def reload(self) -> bool:
        """Read again what the words of a `WordFilter` are from, while the server goes on; what SIGHUP does.

        A file that cannot be used is logged, and the words stay as they are.

        Returns:
            Whether the words are now those of the file.
        """
        content_filter = self._node.content_filter
        if not isinstance(content_filter, WordFilter) or content_filter.path is None:
            log.info("nothing to reload")
            return False
        return await trio.to_thread.run_sync(content_filter.reload)

    # --- what open_server runs ------------------------------------------------------------------------

    async def _start(self) -> None:
        """Make the hubs follow the backplane, and write the leaves that a crash left unwritten."""
        self._node.backplane.subscribe(self._fan_out.deliver)
        try:
            transient = await perform(self._node.store, TransientMembers())
        except LiveError as exc:
            raise ConfigError(f"the store does not answer: {exc.reason}") from exc
        for channel_id, user_id in transient:
            lifecycle.submit_leave(self._node, channel_id, user_id)

    async def _serve(self, transport: Transport, head: RequestHead | None, received: bytes) -> None:
        """Serve one accepted connection: WebSocket or HTTP, by its first request."""
        if head is None or not head.is_websocket:
            with trio.CancelScope() as scope:
                self._http_scopes.add(scope)
                try:
                    await self._http.serve(transport, received)
                finally:
                    self._http_scopes.discard(scope)
            return
        if head.upgrade_fault is not None:
            await refuse(transport, 400, head.upgrade_fault)
            return
        connection = Connection(self._node, self.config.gateway, self.config.rates, transport, head, received)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._nobody_left.unpark_all()

    async def _drain(self) -> None:
        """Ask all clients to go elsewhere, wait for them a while, then close those that stayed (4003)."""
        self._node.draining = True
        log.info("draining", connections=len(self._connections))
        window_ms = self.config.gateway.drain_ms
        # Spread, so that they do not all knock at the next server's door in one instant.
        spread = Random()
        for connection in list(self._connections):
            delay_ms = spread.randrange(int(window_ms * RECONNECT_SHARE) + 1)
            connection.send(Outgoing(Op.RECONNECT, Reconnect(delay_ms, "server is shutting down")))
        with self._drain_scope:
            with trio.move_on_after(window_ms / 1000):
                while self._connections:
                    await self._nobody_left.park()
        for connection in list(self._connections):
            connection.close(CloseCode.DRAIN)
        for scope in self._http_scopes:
            scope.cancel()

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
    open_store: OpenStore = _open_store,
) -> AsyncGenerator[Server]:
    """Run a server while the block runs. Its addresses are bound once the block is entered.

    Leaving the block drains: no new connections, RECONNECT to all, then close (4003) after `drain_ms` at most.
    Leaving it by an exception or by cancellation does not wait for clients, but still closes every
    connection properly, within `close_timeout_ms`, and writes what the store has taken.

    Args:
        config: the defaults, if left out.
        authenticator: decides who a token speaks for; a shared secret, if left out.
        content_filter: decides what may be said; if left out, a `WordFilter` where `chat.words_file` is set.
        open_store: where channels and messages are kept; where `config.store` says, if left out.

    Raises:
        ConfigError: a setting is wrong, a port is taken, a file cannot be used.
    """
    config = config if config is not None else Config()
    config.check()
    tls = _tls_context(config)
    if content_filter is None and config.chat.words_file is not None:
        # In a thread: many words take a while.
        load = partial(WordFilter.load, config.chat.words_file, config.chat.words_action)
        content_filter = await trio.to_thread.run_sync(load)
    with ExitStack() as stack:
        # In a thread: looking up a name may take long.
        tcp_sockets = await trio.to_thread.run_sync(tcp.bind, config.host, config.port)
        for sock in tcp_sockets:
            stack.callback(sock.close)
        addresses = tcp.addresses(tcp_sockets)
        udp_host = addresses[0][0]
        try:
            udp_socket = stack.enter_context(udp.open_media_socket(udp_host, config.udp_port))
        except OSError as exc:
            reason = (exc.strerror or str(exc)).lower()
            raise ConfigError(f"cannot listen on {udp_host}:{config.udp_port} (UDP): {reason}") from exc
        async with open_store(config) as store:
            if authenticator is None:
                secret = obtain_secret(config)
                if not all(is_loopback(host) for host, _ in addresses):
                    check_secret(secret)
                authenticator = SharedSecretAuthenticator(secret)
            hub = MediaPeerHub(os.urandom, peer_timeout_s=config.media.peer_timeout_ms / 1000)
            relay = Relay(hub)
            plane = UdpMediaPlane(hub, relay, udp_socket, config.advertise_host)
            node = _make_node(config, store, plane, authenticator, content_filter)
            server = Server(config, node, relay, tcp_sockets, Addresses(addresses, plane.address), tls)
            await server._start()
            # Only now: by here the secret is known to be fit for these addresses, and the store answers.
            tcp.listen(tcp_sockets)
            try:
                log.info("listening", tcp=addresses, udp=plane.address, node_id=node.node_id)
                async with _run(server, partial(udp.run, udp_socket, relay)):
                    yield server
            except BaseExceptionGroup as group:
                # The nurseries are ours, so they must not show in what the caller's own block raised.
                raise _unwrap(group, nurseries=2) from None
            finally:
                server._end_sessions()
                log.info("stopped", node_id=node.node_id)


def _unwrap(exc: BaseException, *, nurseries: int) -> BaseException:
    """Take off the groups that so many nurseries put around a lone exception, and no group of its own."""
    for _ in range(nurseries):
        if isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
            exc = exc.exceptions[0]
    return exc


@asynccontextmanager
async def _run(server: Server, run_relay: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Hold the nursery tree; see the module."""
    async with trio.open_nursery() as services:
        services.start_soon(reaper.run, server._node.deadlines)
        services.start_soon(server._node.keeper.run)
        services.start_soon(presence.run, server._node)
        services.start_soon(run_relay)
        async with trio.open_nursery() as connections:
            accepting = trio.CancelScope()

            async def accept() -> None:
                with accepting:
                    await server._listener.run(connections)

            connections.start_soon(accept)
            yield
            accepting.cancel()
            await server._drain()
            # What has not ended by then was still at its handshake.
            connections.cancel_scope.deadline = trio.current_time() + server.config.gateway.close_timeout_ms / 1000
        services.cancel_scope.cancel()


def _make_node(
    config: Config,
    store: Store,
    plane: UdpMediaPlane,
    authenticator: Authenticator,
    content_filter: ContentFilter | None,
) -> Node:
    node_id = config.node_id or f"node_{secrets.token_hex(4)}"
    heartbeat_s = config.gateway.heartbeat_interval_ms / 1000
    # Outlives a missed touch; what is parked is touched as well, until its own window is over.
    sessions = MemorySessionStorage(config.gateway.resume_window_ms / 1000 + 3 * heartbeat_s)
    users = UserHub()
    return Node(
        node_id=node_id,
        store=store,
        backplane=MemoryBackplane(),
        sessions=sessions,
        keeper=SessionKeeper(sessions, users, node_id, touch_interval_s=heartbeat_s),
        users=users,
        presence=PresenceHub(config.chat.presence_grace_ms / 1000),
        media=plane,
        authenticator=authenticator,
        limits=config.chat,
        resume_window_s=config.gateway.resume_window_ms / 1000,
        media_keys_in_clear=config.media.keys_in_clear,
        content_filter=content_filter,
    )


def _tls_context(config: Config) -> ssl.SSLContext | None:
    """Load the certificate, if one is configured.

    Raises:
        ConfigError: a file cannot be read, or is no certificate or key, or they do not belong together.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    for path in (config.tls_cert, config.tls_key):
        try:
            path.open("rb").close()
        except OSError as exc:
            raise ConfigError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation could make a write wait for the peer; HTTP/2 forbids it, and nobody needs it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        # A key with a pass phrase would stop here and ask on the terminal.
        context.load_cert_chain(config.tls_cert, config.tls_key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(f"cannot use {config.tls_cert} with {config.tls_key}: {exc}") from exc
    return context


def _refuse_password() -> str:
    raise ValueError("the key must not have a pass phrase")
