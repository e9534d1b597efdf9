"""What SRTP costs per packet: livechat.srtp beside libsrtp (pylibsrtp), in one process, in turn.

    python -m benchmarks.srtp                                    all profiles and sizes, some ten seconds
    python -m benchmarks.srtp --quick                            a second, to see that it works
    python -m benchmarks.srtp --profiles AEAD_AES_128_GCM --sizes 160 --fan-out 200

*protect* and *unprotect* take one packet, replay window and all; each opens what the other one has protected, so
every packet is a test as well. *fan-out* opens a packet once and seals it for many receivers, each with its own
key; its figure is per receiver. libsrtp is C; between it and Python stands pylibsrtp's binding, which everyone who
uses it from Python pays for.

Time is the thread's own, and of all repeats the least counts: what disturbs can only add. The results go to
the terminal and to a JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import gc
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
from pylibsrtp import Session

from benchmarks.peers.rooms import inbound, outbound
from benchmarks.support import figures
from benchmarks.support.arguments import names_of, whole_numbers
from benchmarks.support.scenario import PROFILES
from livechat.rtp.packet import RtpHeader
from livechat.srtp.cipher import make_ciphers
from livechat.srtp.context import SrtpReceiver, SrtpSender
from livechat.srtp.profile import SrtpProfile

JSON_FILE: Final = Path(__file__).parent / "results" / "srtp.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""
SIZES: Final = (160, 1200)
SIZE_MAX: Final = 1_400
FAN_OUT: Final = 50
FAN_OUT_MAX: Final = 1_000
PACKETS: Final = 2_000
"""Timed at a stretch, a few milliseconds: long against the clock's steps, short against what disturbs."""
REPEATS: Final = 15
QUICK_PACKETS: Final = 100
QUICK_REPEATS: Final = 3
SSRC: Final = 0x2000_0001

Result = TypeVar("Result")

HEADINGS: Final = ("profile", "bytes", "operation", "livechat us", "pylibsrtp us", "livechat is")


def document(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "srtp"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    packets     timed at a stretch
    repeats     of which the least counts
    fan_out     receivers of each packet
    rows        one object each: profile, payload_bytes, operation (protect, unprotect, fan-out),
                livechat_us, pylibsrtp_us (per packet; fan-out: per receiver), ratio (above 1: livechat is faster)
    """
    return {
        "format": FORMAT,
        "benchmark": "srtp",
        "started_at": started_at,
        "machine": machine,
        "packets": options.packets,
        "repeats": options.repeats,
        "fan_out": options.fan_out,
        "rows": list(rows),
    }


class Livechat:
    """What is measured of livechat."""

    def __init__(self, profile: SrtpProfile, key: bytes, listener_keys: Sequence[bytes]) -> None:
        self.protect = SrtpSender(profile, key).protect
        self.unprotect = SrtpReceiver(profile, key).unprotect
        self._open = SrtpReceiver(profile, key).open
        ciphers = [make_ciphers(profile, listener_key)[0] for listener_key in listener_keys]
        self._seal_each: Callable[..., bytes] = ciphers[0].seal_each
        self._legs = [cipher.leg() for cipher in ciphers]

    def fan_out(self, packet: bytes) -> bytes:
        """Open a packet and seal it for all listeners; the copies back to back, as the relay sends them."""
        ssrc, index, header_bytes, payload, _ = self._open(packet)
        return self._seal_each(self._legs, packet[:header_bytes], payload, ssrc, index)


class Libsrtp:
    """The same of libsrtp."""

    def __init__(self, profile: SrtpProfile, key: bytes, listener_keys: Sequence[bytes]) -> None:
        self.protect = outbound(profile, key).protect
        self.unprotect = inbound(profile, key).unprotect
        self._open = inbound(profile, key).unprotect
        self._sessions: list[Session] = [outbound(profile, listener_key) for listener_key in listener_keys]

    def fan_out(self, packet: bytes) -> list[bytes]:
        """Open a packet and seal it for all listeners."""
        plain = self._open(packet)
        return [session.protect(plain) for session in self._sessions]


@attrs.define
class Least:
    """The least times so far, in nanoseconds for all packets of a stretch."""

    livechat_ns: int = sys.maxsize
    pylibsrtp_ns: int = sys.maxsize

    def note(self, livechat_ns: int, pylibsrtp_ns: int) -> None:
        """Note a repeat."""
        self.livechat_ns = min(self.livechat_ns, livechat_ns)
        self.pylibsrtp_ns = min(self.pylibsrtp_ns, pylibsrtp_ns)


def measure(profile: str, payload_bytes: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a profile and size.

    Raises:
        AssertionError: one did not understand the other.
    """
    length = SrtpProfile(profile).master_bytes
    key, *listener_keys = (secrets.token_bytes(length) for _ in range(1 + options.fan_out))
    own = Livechat(SrtpProfile(profile), key, listener_keys)
    other = Libsrtp(SrtpProfile(profile), key, listener_keys)
    least = {operation: Least() for operation in ("protect", "unprotect", "fan-out")}
    few = max(1, options.packets // options.fan_out)
    for repeat in range(options.repeats):
        plain = list(rtp_packets(repeat * options.packets, options.packets, payload_bytes))
        own_ns, own_sealed = timed(own.protect, plain)
        other_ns, other_sealed = timed(other.protect, plain)
        least["protect"].note(own_ns, other_ns)
        own_ns, own_opened = timed(own.unprotect, other_sealed)
        other_ns, other_opened = timed(other.unprotect, own_sealed)
        least["unprotect"].note(own_ns, other_ns)
        assert own_opened == other_opened == plain
        own_ns, own_copies = timed(own.fan_out, other_sealed[:few])
        other_ns, other_copies = timed(other.fan_out, own_sealed[:few])
        least["fan-out"].note(own_ns, other_ns)
        assert own_copies == [b"".join(copies) for copies in other_copies]
    counts = {"protect": options.packets, "unprotect": options.packets, "fan-out": few * options.fan_out}
    return [
        {
            "profile": profile,
            "payload_bytes": payload_bytes,
            "operation": operation,
            "livechat_us": round(times.livechat_ns / counts[operation] / 1000, 3),
            "pylibsrtp_us": round(times.pylibsrtp_ns / counts[operation] / 1000, 3),
            "ratio": round(times.pylibsrtp_ns / times.livechat_ns, 2),
        }
        for operation, times in least.items()
    ]


def timed(function: Callable[[bytes], Result], packets: Sequence[bytes]) -> tuple[int, list[Result]]:
    """Return how long a function took for all packets, in nanoseconds of this thread, and its results."""
    begin_ns = time.thread_time_ns()
    results = [function(packet) for packet in packets]
    return time.thread_time_ns() - begin_ns, results


def rtp_packets(first: int, count: int, payload_bytes: int) -> Iterator[bytes]:
    """Yield RTP packets with sequence numbers that go on from one stretch to the next."""
    payload = bytes(number & 0xFF for number in range(payload_bytes))
    for index in range(first, first + count):
        yield (
            RtpHeader(sequence=index & 0xFFFF, timestamp=index * 160 & 0xFFFFFFFF, ssrc=SSRC).serialize() + payload
        )


def table_row(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    stated = [row["profile"], str(row["payload_bytes"]), row["operation"]]
    return [*stated, f"{row['livechat_us']:.2f}", f"{row['pylibsrtp_us']:.2f}", f"x {row['ratio']:.2f}"]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.srtp", description=__doc__.split("\n")[0])
    parser.add_argument("--profiles", type=names_of(PROFILES), default=list(PROFILES), help="[all four]")
    parser.add_argument("--sizes", type=whole_numbers(SIZE_MAX), default=list(SIZES), help="[160,1200]")
    parser.add_argument("--fan-out", type=int, default=FAN_OUT, help="receivers of each packet  [%(default)s]")
    parser.add_argument("--packets", type=int, help=f"at a stretch  [{PACKETS}]")
    parser.add_argument("--repeats", type=int, help=f"of which the least counts  [{REPEATS}]")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where to write the results  [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="few packets")
    options = parser.parse_args(arguments)
    options.packets = options.packets or (QUICK_PACKETS if options.quick else PACKETS)
    options.repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    if not 0 < options.fan_out <= FAN_OUT_MAX:
        parser.error(f"--fan-out: expected 1 to {FAN_OUT_MAX}, got {options.fan_out}")
    if not 0 < options.packets <= 10_000 or not 0 < options.repeats <= 1_000:
        parser.error("--packets, --repeats: expected up to 10000 and up to 1000")
    return options


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: list[dict[str, Any]] = []
    gc.collect()
    gc.disable()
    for profile in options.profiles:
        for payload_bytes in options.sizes:
            rows += measure(profile, payload_bytes, options)
    print(figures.table(HEADINGS, [table_row(row) for row in rows]))
    print(f"microseconds per packet, of fan-out per receiver ({options.fan_out} of them, one opening included)")
    if machine["load_average"] > machine["cpus_usable"] / 2:
        print("! other programs were busy: repeat it on a machine that does nothing else")
    figures.write_json(options.json, document(options, rows, started_at, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
