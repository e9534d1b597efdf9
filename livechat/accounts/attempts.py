"""Owns how often somebody may try: to log in, to refresh, to make an account. Pure, with bounded memory.

It must not know accounts or addresses beyond their names. Each name has a bucket of attempts, kept as the time at
which it is full again (see `livechat.gateway.rates`).

A stranger who tries an account's password over and over empties the account's bucket, and its owner would be kept
out with him. So who logged in from an address has a bucket of his own there: strangers never delay him.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

from livechat.accounts.settings import AccountSettings

NAMES_MAX: Final = 100_000
"""Names remembered of each kind, some 20 MB in all; then the one that tried longest ago is forgotten."""
SLACK_S: Final = 1e-6
"""What adding up times may be wrong by: who waited exactly as told must get through."""
IPV6_PREFIX_BITS: Final = 64
"""What one customer has at least (RFC 6177), so what counts as one address."""


class Buckets:
    """A bucket of attempts for each name; full at first.

    Args:
        burst: attempts at once.
        interval_s: after that one becomes possible every so many seconds.
    """

    def __init__(self, burst: int, interval_s: float, names_max: int = NAMES_MAX) -> None:
        self._interval_s = interval_s
        self._burst_s = burst * interval_s
        self._names_max = names_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_s(self, name: str, now: float) -> float:
        """Return how long until an attempt is possible; 0: now."""
        too_far_s = max(self._full_at.get(name, now), now) + self._interval_s - now - self._burst_s
        return too_far_s if too_far_s > SLACK_S else 0.0

    def take(self, name: str, now: float) -> None:
        """Count an attempt."""
        self._full_at[name] = max(self._full_at.get(name, now), now) + self._interval_s
        self._full_at.move_to_end(name)
        # What is full again need not be remembered; the eldest are looked at, two for each that comes.
        for _ in range(2):
            eldest, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._names_max:
                break
            del self._full_at[eldest]

    def give_back(self, name: str) -> None:
        """Take back that an attempt was counted."""
        if name in self._full_at:
            self._full_at[name] -= self._interval_s

    def reset(self, name: str) -> None:
        """Fill a bucket."""
        self._full_at.pop(name, None)


class Attempts:
    """All that is counted for one server."""

    def __init__(self, settings: AccountSettings, names_max: int = NAMES_MAX) -> None:
        interval_s = settings.attempt_interval_s
        self._accounts = Buckets(settings.attempts_per_account, interval_s, names_max)
        self._addresses = Buckets(settings.attempts_per_address, interval_s, names_max)
        self._registrations = Buckets(
            settings.registrations_per_address, settings.registration_interval_s, names_max
        )
        self._known: OrderedDict[str, None] = OrderedDict()
        """Who logged in from where."""
        self._names_max = names_max

    def begin_login(self, account: str, address: str | None, now: float) -> int | None:
        """Count an attempt to log in.

        Args:
            account: whether or not there is one.
            address: see `address_of`.
            now: monotonic seconds.

        Returns:
            None: it may go ahead. Else it may not, and may be tried again after so many milliseconds (≥ 1).
        """
        name = self._account_name(account, address)
        wait_s = max(self._accounts.wait_s(name, now), self._wait_of_address_s(address, now))
        if wait_s:
            return math.ceil(wait_s * 1000)
        self._accounts.take(name, now)
        if address is not None:
            self._addresses.take(address, now)
        return None

    def login_succeeded(self, account: str, address: str | None) -> None:
        """Let the account's next attempts be its first again, and remember where it is at home."""
        self._accounts.reset(self._account_name(account, address))
        if address is not None:
            self._addresses.give_back(address)
            pair = _pair(account, address)
            self._known[pair] = None
            self._known.move_to_end(pair)
            if len(self._known) > self._names_max:
                self._known.popitem(last=False)

    def login_withdrawn(self, account: str, address: str | None) -> None:
        """Take back an attempt that said nothing of the password: the server itself failed."""
        self._accounts.give_back(self._account_name(account, address))
        self.proof_succeeded(address)

    def begin_proof(self, address: str | None, now: float) -> int | None:
        """Count an attempt to show a token of no account in particular; see `begin_login`."""
        wait_s = self._wait_of_address_s(address, now)
        if wait_s:
            return math.ceil(wait_s * 1000)
        if address is not None:
            self._addresses.take(address, now)
        return None

    def proof_succeeded(self, address: str | None) -> None:
        """Count only attempts that failed."""
        if address is not None:
            self._addresses.give_back(address)

    def begin_registration(self, address: str | None, now: float) -> int | None:
        """Count an attempt to make an account; see `begin_login`."""
        if address is None:
            return None
        wait_s = self._registrations.wait_s(address, now)
        if wait_s:
            return math.ceil(wait_s * 1000)
        self._registrations.take(address, now)
        return None

    def _wait_of_address_s(self, address: str | None, now: float) -> float:
        return 0.0 if address is None else self._addresses.wait_s(address, now)

    def _account_name(self, account: str, address: str | None) -> str:
        pair = _pair(account, address or "")
        return pair if pair in self._known else account


def _pair(account: str, address: str) -> str:
    # Neither holds a space.
    return f"{account} {address}"


def address_of(host: str) -> str | None:
    """Return what counts as the address of an IP literal; None: loopback, which is not limited."""
    address = ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        shift = 128 - IPV6_PREFIX_BITS
        return str(IPv6Address(int(address) >> shift << shift))
    return str(address)
