"""Owns the TCP port: each connection is served as WebSocket or HTTP, by its first request, until the drain.

It must not open or bind anything; the composition root does (`livechat.server`).
"""

from __future__ import annotations

import socket
from random import Random
from typing import Final

import structlog
import trio

from livechat.config import Config
from livechat.gateway import listener as tcp
from livechat.gateway.budget import Budget, EgressLimits, EgressPool
from livechat.gateway.connection import Connection
from livechat.gateway.echo import ECHO_PATH, Echo
from livechat.gateway.entrance import Entrance
from livechat.gateway.head import RequestHead, is_loopback
from livechat.gateway.rates import RateLimiters
from livechat.gateway.settings import GatewaySettings
from livechat.gateway.tls import Certificate
from livechat.gateway.transport import Transport
from livechat.handlers.node import Node
from livechat.http.app import create_app, describing
from livechat.http.door import Doorkeeper
from livechat.http.guard import Guard
from livechat.http.host import HttpHost, HttpLimits
from livechat.http.observing import Observing
from livechat.http.rates import RateGate
from livechat.jobs.desk import JobDesk
from livechat.protocol.events import Reconnect
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.outgoing import Outgoing
from livechat.telemetry.counters import Counters

log = structlog.get_logger("livechat.server")

RECONNECT_SHARE: Final = 0.5
"""Clients are asked to come back within this share of the drain window, so that all have gone by its end."""
HURRIED_CLOSE_S: Final = 0.2
"""How long clients may take to answer the close frame once they are not to be waited for."""


class Front:
    """All connections of a server.

    Args:
        sockets: bound; they listen once `listen` was called, and are closed by whoever bound them.
        certificate: None: no TLS.
    """

    def __init__(
        self,
        config: Config,
        node: Node,
        jobs: JobDesk,
        sockets: list[socket.socket],
        certificate: Certificate | None,
    ) -> None:
        self.connections: set[Connection] = set()
        """Those that are WebSockets, or about to be."""
        self.echoes: set[Echo] = set()
        """Those that are WebSockets for tests."""
        self.http_scopes: set[trio.CancelScope] = set()
        """One for each connection that speaks HTTP."""
        self._config = config
        self._node = node
        self._jobs = jobs
        self._sockets = sockets
        self._nobody_left = trio.lowlevel.ParkingLot()
        self._drain_scope = trio.CancelScope()
        self._close_scope = trio.CancelScope()
        self._rest: trio.CancelScope | None = None
        """Of what is left to be done once all are told that they are closed; None before."""
        counters = node.instruments.counters
        self.pool = _make_pool(config.gateway, counters)
        """What all egress queues have in common."""
        self._doorkeeper = Doorkeeper(
            node.addresses,
            node.now,
            origins=(*config.gateway.allowed_origins, *config.http.cors_origins),
            trusted_proxies=config.gateway.trusted_proxies,
            counters=counters,
        )
        self._entrance = Entrance(config.gateway.entries_at_once, config.gateway.accepts_per_s)
        # One for all: each connection keeps it.
        self._wait_turn = self._entrance.turn
        self.listener = tcp.Listener(
            sockets,
            self._serve,
            tls=None if certificate is None else certificate.current,
            head_timeout_s=config.gateway.head_timeout_ms / 1000,
            connections_max=config.gateway.connections_max,
            doorkeeper=self._doorkeeper,
            counters=counters,
            entrance=self._entrance,
            options=config.gateway.socket_options,
        )
        self._http = _make_host(config, node, all(is_loopback(host) for host, _ in tcp.addresses(sockets)))

    def listen(self) -> None:
        """Let clients connect from now on."""
        for doubt in self._config.doubts():
            log.warning("one setting makes another pointless", doubt=doubt)
        if self._config.gateway.debug_echo:
            log.warning("anybody may use the echo for tests", path=ECHO_PATH, setting="gateway.debug_echo")
        tcp.listen(self._sockets)

    def hurry(self) -> None:
        """End a drain that is under way, or that comes, without waiting for clients to go."""
        self._drain_scope.cancel()
        if self._rest is not None:
            now = trio.current_time()
            self._close_scope.deadline = min(self._close_scope.deadline, now + HURRIED_CLOSE_S)
            self._rest.deadline = min(self._rest.deadline, now + 2 * HURRIED_CLOSE_S)

    async def drain(self, rest: trio.CancelScope) -> None:
        """Ask all clients to go elsewhere, wait a while for them, jobs and responses; then close all (4003).

        Args:
            rest: in it the connections' tasks run. In the end its deadline is set: what has not ended by then was
                still at its handshake.
        """
        self._node.draining = True
        self._jobs.close()
        self._http.close()
        log.info("draining", connections=len(self.connections))
        for echo in list(self.echoes):
            echo.close(CloseCode.GOING_AWAY)
        window_ms = self._config.gateway.drain_ms
        # Spread, so that they do not all knock at the next server's door in one instant.
        spread = Random()
        for connection in list(self.connections):
            delay_ms = spread.randrange(int(window_ms * RECONNECT_SHARE) + 1)
            connection.send(Outgoing(Op.RECONNECT, Reconnect(delay_ms, "server is shutting down")))
        with self._drain_scope:
            with trio.move_on_after(window_ms / 1000):
                while self.connections:
                    await self._nobody_left.park()
                await self._jobs.wait_idle()
                await self._http.wait_idle()
        for connection in list(self.connections):
            connection.close(CloseCode.DRAIN)
        for scope in self.http_scopes:
            scope.cancel()
        rest.deadline = trio.current_time() + self._config.gateway.close_timeout_ms / 1000
        self._rest = rest
        if self._drain_scope.cancel_called:
            self.hurry()
        with self._close_scope:
            while self.connections:
                await self._nobody_left.park()
        if self._close_scope.cancelled_caught:
            for connection in list(self.connections):
                connection.sink.abort()

    async def _serve(self, transport: Transport, head: RequestHead | None, received: bytes) -> None:
        """Serve one accepted connection."""
        is_echo = head is not None and self._config.gateway.debug_echo and head.upgrades(ECHO_PATH)
        if head is None or not (head.is_websocket or is_echo):
            with trio.CancelScope() as scope:
                self.http_scopes.add(scope)
                try:
                    await self._http.serve(transport, received)
                finally:
                    self.http_scopes.discard(scope)
            return
        if await self._doorkeeper.turns_away(transport, head):
            return
        if is_echo:
            await self._serve_echo(transport, head, received)
            return
        connection = Connection(
            self._node,
            self._config.gateway,
            self._config.rates,
            self.pool,
            transport,
            head,
            received,
            wait_turn=self._wait_turn,
        )
        self.connections.add(connection)
        # They may hold tokens, and would be kept as long as the connection lasts.
        del head, received
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            if not self.connections:
                self._nobody_left.unpark_all()

    async def _serve_echo(self, transport: Transport, head: RequestHead, received: bytes) -> None:
        echo = Echo(self._config.gateway, transport, head, received, self.pool)
        self.echoes.add(echo)
        try:
            await echo.run()
        finally:
            self.echoes.discard(echo)


def _make_pool(settings: GatewaySettings, counters: Counters) -> EgressPool:
    limits = EgressLimits(
        settings.egress_bytes, settings.egress_frames, settings.chunk_bytes, settings.chunk_frames
    )
    return EgressPool(limits, counters, Budget(settings.egress_total_bytes))


def _make_host(config: Config, node: Node, on_loopback: bool) -> HttpHost:
    app = create_app(
        node,
        body_bytes_max=config.gateway.http_body_bytes,
        on_loopback=on_loopback,
        gates=(RateGate(RateLimiters(config.rates, config.addresses.remembered)),),
    )
    guarded = Guard(app, config.gateway.allowed_origins, config.http.cors_origins)
    return HttpHost(
        Observing(guarded, node.instruments),
        HttpLimits(config.gateway.http_body_bytes, config.gateway.http_idle_ms / 1000),
        describing(node.instruments.counters),
        config.gateway.trusted_proxies,
    )
