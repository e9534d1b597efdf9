"""A relay of asyncio and libsrtp: a DatagramProtocol, a session for each talker and each listener."""

from __future__ import annotations

import asyncio
from typing import cast

from pylibsrtp import Error, Session

from benchmarks.peers.rooms import inbound, open_socket, outbound, read_rooms

Legs = list[tuple[Session, tuple[str, int]]]


class Relay(asyncio.DatagramProtocol):
    """Opens each packet and protects it anew for each listener."""

    def __init__(self, rooms: dict[bytes, tuple[Session, Legs]]) -> None:
        self.rooms = rooms
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def transport(self) -> asyncio.DatagramTransport:
        """What to send with."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport to send with."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        """Relay a packet."""
        room = self.rooms.get(data[8:12])
        if room is None:
            return
        session, legs = room
        try:
            packet = session.unprotect(data)
        except Error:
            return
        sendto = self.transport.sendto
        for leg, address in legs:
            sendto(leg.protect(packet), address)


async def serve(relay: type[Relay]) -> None:
    """Relay until killed."""
    profile, rooms = read_rooms()
    sessions = {
        room.ssrc.to_bytes(4, "big"): (
            inbound(profile, room.key),
            [(outbound(profile, listener.key), listener.address) for listener in room.listeners],
        )
        for room in rooms
    }
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: relay(sessions), sock=open_socket())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Relay))
