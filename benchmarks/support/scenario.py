"""Owns what one measurement is and what comes out of it, as parent and client process tell each other.

It must not measure anything.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

import attrs

Kind = Literal["chat", "voice"]

Progress = tuple[str, int, int]
"""(what is being done, how much of it is done, how much there is)."""

PROFILES: Final = (
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
)


@attrs.frozen
class Scenario:
    """One row of the table: a load, and how long it lasts."""

    kind: Kind
    rate_hz: float
    """Messages or packets sent a second, in all."""
    fan_out: int
    """Receivers of each."""
    seconds: float
    profile: str | None = None
    """How voice is protected; None for chat."""

    @property
    def count(self) -> int:
        """How many are sent while the clock runs."""
        return max(1, round(self.rate_hz * self.seconds))

    def __str__(self) -> str:
        profile = f", {self.profile}" if self.profile else ""
        return f"{self.kind}: {self.rate_hz:g}/s to {self.fan_out}{profile}"


@attrs.frozen
class Assignment:
    """What the client process reads from standard input."""

    scenario: Scenario
    url: str
    token: str = attrs.field(repr=False)
    server_pid: int

    def serialize(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def parse(cls, data: str) -> Assignment:
        """Return what `serialize` wrote."""
        fields = json.loads(data)
        return cls(Scenario(**fields["scenario"]), fields["url"], fields["token"], fields["server_pid"])


def progress_line(progress: Progress) -> str:
    """Return a line that the client process prints while it works."""
    return json.dumps({"progress": progress})


def result_line(result: dict[str, Any]) -> str:
    """Return the last line that the client process prints."""
    return json.dumps({"result": result})
