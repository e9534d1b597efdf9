"""Owns how often somebody may try: to log in, to refresh, to make an account. Pure, with bounded memory.

It must not know accounts or addresses beyond their names. Each name has a bucket of attempts.

A stranger who tries an account's password over and over empties the account's bucket, and its owner would be kept
out with him. So who logged in from an address has a bucket of his own there: strangers never delay him.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from livechat.accounts.settings import AccountSettings
from livechat.limits.addresses import counted_as, plain
from livechat.limits.buckets import Buckets

NAMES_MAX: Final = 100_000
"""Names remembered of each kind, some 20 MB in all; then the one that tried longest ago is forgotten."""


class Attempts:
    """All that is counted for one server."""

    def __init__(self, settings: AccountSettings, names_max: int = NAMES_MAX) -> None:
        per_s = 1 / settings.attempt_interval_s
        self._accounts = Buckets(per_s, settings.attempts_per_account, names_max)
        self._addresses = Buckets(per_s, settings.attempts_per_address, names_max)
        self._registrations = Buckets(
            1 / settings.registration_interval_s, settings.registrations_per_address, names_max
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
        waits_ms = (self._accounts.wait_ms(name, now), self._wait_of_address_ms(address, now))
        wait_ms = max((wait_ms for wait_ms in waits_ms if wait_ms is not None), default=None)
        if wait_ms is not None:
            return wait_ms
        self._accounts.take(name, now)
        if address is not None:
            self._addresses.take(address, now)
        return None

    def login_succeeded(self, account: str, address: str | None) -> None:
        """Let the account's next attempts be its first again, and remember where it is at home."""
        self._accounts.refill(self._account_name(account, address))
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
        return None if address is None else self._addresses.take(address, now)

    def proof_succeeded(self, address: str | None) -> None:
        """Count only attempts that failed."""
        if address is not None:
            self._addresses.give_back(address)

    def begin_registration(self, address: str | None, now: float) -> int | None:
        """Count an attempt to make an account; see `begin_login`."""
        return None if address is None else self._registrations.take(address, now)

    def _wait_of_address_ms(self, address: str | None, now: float) -> int | None:
        return None if address is None else self._addresses.wait_ms(address, now)

    def _account_name(self, account: str, address: str | None) -> str:
        pair = _pair(account, address or "")
        return pair if pair in self._known else account


def _pair(account: str, address: str) -> str:
    # Neither holds a space.
    return f"{account} {address}"


def address_of(host: str) -> str | None:
    """Return what an IP literal counts as; None: loopback, which is not limited."""
    address = plain(host)
    return None if address.is_loopback else counted_as(address)
