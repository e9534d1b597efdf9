"""Owns sendmmsg(2) and recvmmsg(2): many datagrams a call, so that a load generator in Python outruns a relay.

It must not look into a datagram. Linux with 64-bit pointers only; both calls never wait.

    struct mmsghdr, in words of 8 bytes:

    0  msg_name      1  msg_namelen     2  msg_iov     3  msg_iovlen
    4  msg_control   5  msg_controllen  6  msg_flags   7  msg_len (the first 4 bytes: what the call reports)

    struct iovec: 0 iov_base, 1 iov_len.  A control message with a time: cmsg_len (8 bytes), level and type
    (4 each), then a struct timespec: seconds, nanoseconds (8 each).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from typing import Final

HEADER_BYTES: Final = 64
SO_TIMESTAMPNS: Final = 35
"""Has the system tell when it took a datagram in; Linux's number, which Python's socket module does not name."""

_HEADER_WORDS: Final = HEADER_BYTES // 8
_CONTROL_WORD: Final = 5
_IOVEC_BYTES: Final = 16
_LENGTH_AT: Final = 14
"""Of msg_len in a header, in words of 4 bytes."""
_CONTROL_BYTES: Final = 32
_TIMESPEC: Final = struct.Struct("=qq")
_TIMESPEC_AT: Final = 16
_PASSING: Final = (errno.EAGAIN, errno.EINTR, errno.ENOBUFS)

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


class Outbox:
    """Datagrams of one length, laid out before the clock runs, so that to send some is one call.

    Args:
        datagram_bytes: how long each is.
        capacity: how many there may be.
    """

    def __init__(self, datagram_bytes: int, capacity: int) -> None:
        self.datagram_bytes = datagram_bytes
        self.capacity = capacity
        self._arena = bytearray(datagram_bytes * capacity)
        arena = _address(self._arena)
        self._iovecs = array("Q")
        for place in range(capacity):
            self._iovecs.extend((arena + place * datagram_bytes, datagram_bytes))
        iovecs = self._iovecs.buffer_info()[0]
        self._headers = array("Q")
        for place in range(capacity):
            self._headers.extend((0, 0, iovecs + place * _IOVEC_BYTES, 1, 0, 0, 0, 0))
        self._headers_at = self._headers.buffer_info()[0]

    def load(self, datagrams: Sequence[bytes]) -> None:
        """Lay datagrams out, in place of those before; each as long as stated."""
        assert len(datagrams) <= self.capacity
        joined = b"".join(datagrams)
        assert len(joined) == len(datagrams) * self.datagram_bytes
        self._arena[: len(joined)] = joined

    def send(self, fd: int, first: int, count: int) -> int:
        """Send datagrams number `first` and on over a connected socket; returns how many the system took.

        Raises:
            OSError: it took none, and not because its buffer is full for a moment.
        """
        sent: int = _sendmmsg(fd, self._headers_at + first * HEADER_BYTES, count, socket.MSG_DONTWAIT)
        return sent if sent >= 0 else _none_or_raise()


class Inbox:
    """Room for the datagrams of one call; what is in it counts until the next.

    Args:
        slots: how many datagrams at most.
        slot_bytes: longer ones are cut.
        timed: whether the system's time of arrival comes along; the socket needs SO_TIMESTAMPNS for it.
    """

    def __init__(self, slots: int, slot_bytes: int, *, timed: bool = False) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._arena = bytearray(slots * slot_bytes)
        self._controls = bytearray(slots * _CONTROL_BYTES)
        arena, controls = _address(self._arena), _address(self._controls)
        self._iovecs = array("Q")
        for place in range(slots):
            self._iovecs.extend((arena + place * slot_bytes, slot_bytes))
        iovecs = self._iovecs.buffer_info()[0]
        self._headers = array("Q")
        for place in range(slots):
            control = (controls + place * _CONTROL_BYTES, _CONTROL_BYTES) if timed else (0, 0)
            self._headers.extend((0, 0, iovecs + place * _IOVEC_BYTES, 1, *control, 0, 0))
        self._headers_at = self._headers.buffer_info()[0]
        self._lengths = memoryview(self._headers).cast("B").cast("I")[_LENGTH_AT :: HEADER_BYTES // 4]
        self._timed = timed

    def receive(self, fd: int) -> int:
        """Take what is there, up to all slots; returns how many, zero for none.

        Raises:
            OSError: another error than that there is nothing.
        """
        received: int = _recvmmsg(fd, self._headers_at, self.slots, socket.MSG_DONTWAIT, None)
        return received if received >= 0 else _none_or_raise()

    def count_of_length(self, received: int, length: int) -> int:
        """Return how many of the datagrams received have this length."""
        return self._lengths[:received].tolist().count(length)

    def length(self, place: int) -> int:
        """Return the length of a datagram, at most `slot_bytes`."""
        return self._lengths[place]

    def datagram(self, place: int) -> bytes:
        """Return a copy of a datagram."""
        start = place * self.slot_bytes
        return bytes(self._arena[start : start + self._lengths[place]])

    def arrived_ns(self, place: int) -> int:
        """Return when the system took a datagram in, nanoseconds since 1970; 0 where it did not say."""
        seconds, nanoseconds = _TIMESPEC.unpack_from(self._controls, place * _CONTROL_BYTES + _TIMESPEC_AT)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def renew(self, received: int) -> None:
        """Make a timed inbox ready again: a call leaves the room it used in place of the room it was given."""
        if self._timed:
            for place in range(_CONTROL_WORD, received * _HEADER_WORDS, _HEADER_WORDS):
                self._headers[place] = _CONTROL_BYTES


def _address(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


def _none_or_raise() -> int:
    number = ctypes.get_errno()
    if number in _PASSING:
        return 0
    raise OSError(number, os.strerror(number))
