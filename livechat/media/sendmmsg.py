"""Owns handing the system many datagrams in one call: sendmmsg, which Python's socket module does not have.

It must not choose what is sent or when, and nothing depends on it: where it does not work, `open_sendmmsg` says
so, and the caller sends one by one.

Source: sendmmsg(2), https://man7.org/linux/man-pages/man2/sendmmsg.2.html. Linux on 64-bit processors:

    msghdr, 56 bytes         mmsghdr, 64 bytes        iovec, 16 bytes
    0   name (pointer)       0   msghdr               0  base (pointer)
    8   name length (32)     56  bytes sent (32)      8  length (64)
    16  iovec (pointer)
    24  iovecs (64)
    32  control (pointer)
    40  control's length (64)
    48  flags (32): none

Everything is made once. Slot i is: mmsghdr i, which for ever points at iovec i and at name i. For a call the
packets are joined into the arena, the iovecs say where each begins, and the packed addresses are joined into
the names: four copies, whatever the number of packets. Where many packets of one length go to few addresses, each
address gets one message of them all (see `segments`): then the headers are copied as well.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

import attrs

from livechat.media.segments import (
    CONTROL,
    CONTROL_LENGTH,
    PACKET_BYTES_MAX,
    SOL_UDP,
    UDP_SEGMENT,
    Layout,
    arrange,
    lay_out,
    may_gain,
)
from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations, Sealed

SLOTS: Final = 512
"""Packets a call takes: enough for a whole turn, so that what goes to one listener in it meets in one message."""
ARENA_BYTES: Final = SLOTS * 2048
"""Bytes a call takes: more than voice ever fills, as packets stay below the path's MTU."""
ADDRESSES_MAX: Final = 16_384
"""Packed addresses that are remembered; past it all are forgotten, and packed again as they come."""
SIZES_MAX: Final = 256
"""Iovecs that are remembered, one set for each length of packet; 8 KiB each."""
LAYOUTS_MAX: Final = 128
"""Layouts that are remembered; past it all are forgotten, and made again as they come. At most 50 KiB each."""

_MMSGHDR: Final = struct.Struct("@PI4xPNPNi4xI4x")
_IOVEC: Final = struct.Struct("@PN")
_IN: Final = struct.Struct("=HH4s8x")
_IN6: Final = struct.Struct("=HHI16sI")

_CANNOT_CUT: Final = {errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP}
"""What the system says where a device or a path takes no messages to be cut."""

_SendCall = Callable[[int, int, int, int], int]


class _Packed(dict[Address, bytes]):
    """Addresses as sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes), packed when first asked for."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._family = family

    def __missing__(self, address: Address) -> bytes:
        if len(self) >= ADDRESSES_MAX:
            self.clear()
        packed = self[address] = pack_address(self._family, address)
        return packed


@attrs.frozen(eq=False)
class _Prepared:
    """A layout as the system takes it."""

    layout: Layout
    names: bytes
    iovecs: bytes
    headers: bytes


class SendMmsg:
    """Sends packets from one socket.

    Args:
        sock: UDP, non-blocking; whoever made it closes it, after the last `send`.
        call: the system's sendmmsg.
        segments: whether the system cuts messages into packets (UDP_SEGMENT).
    """

    def __init__(self, sock: socket.socket, call: _SendCall, *, segments: bool = False) -> None:
        self._descriptor = sock.fileno()
        self._call = call
        self._packed = _Packed(sock.family)
        name_bytes = _IN.size if sock.family == socket.AF_INET else _IN6.size
        self._name_bytes = name_bytes
        self._arena = bytearray(ARENA_BYTES)
        self._names = bytearray(SLOTS * name_bytes)
        self._iovecs = bytearray(SLOTS * _IOVEC.size)
        self._headers = bytearray(SLOTS * _MMSGHDR.size)
        # The addresses hold as long as the arrays do: a bytearray that is never resized does not move, and
        # one from which a ctypes array was made cannot be resized.
        self._anchors = [_anchor(array) for array in (self._arena, self._names, self._iovecs, self._headers)]
        self._arena_at, names_at, iovecs_at, self._headers_at = map(ctypes.addressof, self._anchors)
        self._names_at, self._iovecs_at = names_at, iovecs_at
        for slot in range(SLOTS):
            name, iovec = names_at + slot * name_bytes, iovecs_at + slot * _IOVEC.size
            _MMSGHDR.pack_into(self._headers, slot * _MMSGHDR.size, name, name_bytes, iovec, 1, 0, 0, 0, 0)
        self._plain_headers = bytes(self._headers)
        self._equal: dict[int, bytes] = {}
        self._segments = segments
        self._control = bytearray(CONTROL.size)
        self._anchors.append(_anchor(self._control))
        self._control_at = ctypes.addressof(self._anchors[-1])
        self._layouts: dict[tuple[int, tuple[Address | Destinations, ...]], _Prepared | None] = {}

    def send(self, packets: Sealed) -> list[int]:
        """Send packets and bundles in order, never waiting.

        A packet that the system refuses does not stop those after it.

        Args:
            packets: at least one, in all no more than `SLOTS` and than `ARENA_BYTES`.

        Returns:
            The errno of each packet that was not sent.

        Raises:
            ValueError: it is too much, or an address does not fit the socket; nothing was sent.
        """
        sizes = _sizes(packets)
        if self._segments and 0 < sizes[0] <= PACKET_BYTES_MAX and _are_equal(sizes) and may_gain(packets):
            arranged = arrange(packets)
            prepared = self._prepared_for(sizes[0], arranged)
            if prepared is not None:
                return self._send_messages(sizes[0], arranged, prepared)
        return self._send_packets(packets, sizes)

    def _send_packets(self, packets: Sealed, sizes: list[int]) -> list[int]:
        """Send each packet as a message of its own."""
        joined = b"".join([data for data, _ in packets])
        names = b"".join([self._names_of(destination) for _, destination in packets])
        count = len(names) // self._name_bytes
        if count > SLOTS or len(joined) > ARENA_BYTES:
            raise ValueError(
                f"expected at most {SLOTS} packets of {ARENA_BYTES} bytes, got {count}, {len(joined)}"
            )
        iovecs = self._iovecs_for(packets, sizes)
        self._arena[: len(joined)] = joined
        self._names[: len(names)] = names
        self._iovecs[: len(iovecs)] = iovecs
        return [reason for _, reason in self._send_slots(count)]

    def _prepared_for(self, size: int, packets: Sealed) -> _Prepared | None:
        """Return how packets of one length become messages; None: better one by one."""
        key = (size, tuple([destination for _, destination in packets]))
        if key in self._layouts:
            return self._layouts[key]
        if len(self._layouts) >= LAYOUTS_MAX:
            self._layouts.clear()
        prepared = self._layouts[key] = self._prepare(size, key[1])
        return prepared

    def _prepare(self, size: int, destinations: Sequence[Address | Destinations]) -> _Prepared | None:
        layout = lay_out(destinations, size)
        if layout is None or len(layout.order) > SLOTS:
            return None
        headers = [
            _MMSGHDR.pack(
                self._names_at + slot * self._name_bytes,
                self._name_bytes,
                self._iovecs_at + start * _IOVEC.size,
                count,
                self._control_at,
                CONTROL.size,
                0,
                0,
            )
            for slot, (start, count) in enumerate(zip(layout.starts, layout.counts, strict=True))
        ]
        return _Prepared(
            layout=layout,
            names=b"".join([self._packed[address] for address in layout.addresses]),
            iovecs=b"".join([_IOVEC.pack(self._arena_at + number * size, size) for number in layout.order]),
            headers=b"".join(headers),
        )

    def _send_messages(self, size: int, packets: Sealed, prepared: _Prepared) -> list[int]:
        layout = prepared.layout
        joined = b"".join([data for data, _ in packets])
        if len(joined) > ARENA_BYTES:
            raise ValueError(f"expected at most {ARENA_BYTES} bytes, got {len(joined)}")
        self._arena[: len(joined)] = joined
        self._names[: len(prepared.names)] = prepared.names
        self._iovecs[: len(prepared.iovecs)] = prepared.iovecs
        self._headers[: len(prepared.headers)] = prepared.headers
        CONTROL.pack_into(self._control, 0, CONTROL_LENGTH, SOL_UDP, UDP_SEGMENT, size)
        failures = self._send_slots(len(layout.counts))
        self._headers[: len(prepared.headers)] = self._plain_headers[: len(prepared.headers)]
        reasons: list[int] = []
        for slot, reason in failures:
            if reason not in _CANNOT_CUT:
                reasons += [reason] * layout.counts[slot]
                continue
            start = layout.starts[slot]
            again: Sealed = [
                (joined[number * size : (number + 1) * size], layout.addresses[slot])
                for number in layout.order[start : start + layout.counts[slot]]
            ]
            refused = self._send_packets(again, [size] * len(again))
            if not refused:
                # It was not the destination: a tunnel or a driver is in the way, and it will be there next time.
                self._segments = False
            reasons += refused
        return reasons

    def _names_of(self, destination: Address | Destinations) -> bytes:
        if not isinstance(destination, Destinations):
            return self._packed[destination]
        if destination.packed is None:
            packed = self._packed
            destination.packed = b"".join([packed[address] for address in destination.addresses])
        return destination.packed

    def _iovecs_for(self, packets: Sealed, sizes: list[int]) -> bytes:
        """Return where each packet begins in the arena and how long it is."""
        size = sizes[0]
        # Voice makes packets of one length for long: then the iovecs are those of last time.
        if _are_equal(sizes):
            known = self._equal.get(size)
            if known is None:
                if len(self._equal) >= SIZES_MAX:
                    self._equal.clear()
                known = self._equal[size] = self._pack_iovecs([size] * SLOTS)
            return known
        counts = [len(to) if isinstance(to, Destinations) else 1 for _, to in packets]
        return self._pack_iovecs([size for size, times in zip(sizes, counts, strict=True) for _ in range(times)])

    def _pack_iovecs(self, sizes: Sequence[int]) -> bytes:
        starts = accumulate(sizes, initial=self._arena_at)
        return b"".join([_IOVEC.pack(start, size) for start, size in zip(starts, sizes, strict=False)])

    def _send_slots(self, count: int) -> list[tuple[int, int]]:
        """Have the system send so many slots. Returns those that it refused, each with the errno."""
        failures: list[tuple[int, int]] = []
        slot = 0
        while slot < count:
            sent = self._call(self._descriptor, self._headers_at + slot * _MMSGHDR.size, count - slot, 0)
            if sent > 0:
                # Short of all: the next one failed, and the next call tells why.
                slot += sent
                continue
            reason = ctypes.get_errno()
            if reason != errno.EINTR:
                failures.append((slot, reason))
                slot += 1
        return failures


def _sizes(packets: Sealed) -> list[int]:
    return [len(data) // len(to) if isinstance(to, Destinations) else len(data) for data, to in packets]


def _are_equal(sizes: list[int]) -> bool:
    return sizes.count(sizes[0]) == len(sizes)


def _anchor(array: bytearray) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(array)).from_buffer(array)


def pack_address(family: socket.AddressFamily, address: Address) -> bytes:
    """Pack an address as the kernel takes it.

        sockaddr_in   family (16, native), port (16), IPv4 address (32), 8 bytes of zero
        sockaddr_in6  family (16, native), port (16), flow label (32), IPv6 address (128), scope (32)

    Raises:
        ValueError: it is no IP address of this family.
    """
    host, port = address
    try:
        raw = socket.inet_pton(family, host)
    except OSError as exc:
        raise ValueError(f"expected an address of {family.name}, got {host!r}") from exc
    if family == socket.AF_INET:
        return _IN.pack(family, socket.htons(port), raw)
    return _IN6.pack(family, socket.htons(port), 0, raw, 0)


def open_sendmmsg(sock: socket.socket) -> SendMmsg | None:
    """Return what sends many datagrams at once from a UDP socket; None where that does not work."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return None
    try:
        # Of what is loaded already: whatever C library Python runs on, glibc or musl.
        call = ctypes.CDLL(None, use_errno=True).sendmmsg
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
    call.restype = ctypes.c_int
    if not _works(sock.family, call, segments=False):
        return None
    return SendMmsg(sock, call, segments=_works(sock.family, call, segments=True))


def _works(family: socket.AddressFamily, call: _SendCall, *, segments: bool) -> bool:
    """Send ourselves two datagrams: a sandbox may forbid the call, an emulator may get it wrong."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            sock.setblocking(False)
            address: Address = sock.getsockname()[:2]
            handed: list[int] = []

            def noting(descriptor: int, headers: int, count: int, flags: int) -> int:
                handed.append(count)
                return call(descriptor, headers, count, flags)

            failures = SendMmsg(sock, noting, segments=segments).send([(b"one", address), (b"two", address)])
            arrived = [sock.recv(16), sock.recv(16)]
            return handed == [1 if segments else 2] and not failures and arrived == [b"one", b"two"]
    except OSError:
        return False
