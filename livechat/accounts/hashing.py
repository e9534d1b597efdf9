"""Owns the hashing of passwords: in threads of its own, so many at a time, with a bounded queue.

It must not know accounts. Hashing takes some 30 ms and 19 MiB on purpose, for us as for a thief.

Source: OWASP, Password Storage Cheat Sheet; RFC 9106 (argon2id) by argon2-cffi.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, TypeVar

import argon2
import trio
from argon2.exceptions import InvalidHashError, VerificationError

from livechat.accounts.settings import AccountSettings
from livechat.error import Overloaded

T = TypeVar("T")

TIMEOUT_S: Final = 10.0
"""How long a password may wait in the queue and be hashed."""
RETRY_AFTER_MS: Final = 1000


class Hasher:
    """Makes and checks hashes."""

    def __init__(self, settings: AccountSettings) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=settings.argon2_passes,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
        )
        self._limiter = trio.CapacityLimiter(settings.hash_threads)
        self._waiting_max = settings.hash_queue + settings.hash_threads
        self._waiting = 0
        self._decoy: str | None = None

    async def prepare(self) -> None:
        """Make what users who are not there are checked against; the first of them would take longer otherwise."""
        self._decoy = await self.hash(secrets.token_bytes(16))

    async def hash(self, prepared: bytes) -> str:
        """Return the hash of a password, with the parameters it was made with.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(lambda: self._argon2.hash(prepared))

    async def verify(self, prepared: bytes, password_hash: str | None) -> bool:
        """Tell whether a password is the one of a hash.

        Args:
            password_hash: None: there is none, and that must not show in the time it takes.

        Raises:
            Overloaded: too many wait.
        """
        if password_hash is None:
            return await self._run(lambda: self._verify_decoy(prepared))
        return await self._run(lambda: self._verify(prepared, password_hash))

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash was made with weaker parameters than new ones are."""
        made = argon2.extract_parameters(password_hash)
        weaker = made.memory_cost < self._argon2.memory_cost or made.time_cost < self._argon2.time_cost
        return weaker or made.parallelism < self._argon2.parallelism or made.type is not argon2.Type.ID

    def _verify_decoy(self, prepared: bytes) -> bool:
        self._verify(prepared, self._decoy or self._argon2.hash(secrets.token_bytes(16)))
        return False

    def _verify(self, prepared: bytes, password_hash: str) -> bool:
        try:
            return self._argon2.verify(password_hash, prepared)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._waiting_max:
            raise Overloaded("password: too many are being checked", retry_after_ms=RETRY_AFTER_MS)
        self._waiting += 1
        try:
            with trio.fail_after(TIMEOUT_S):
                return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except trio.TooSlowError:
            raise Overloaded("password: too many are being checked", retry_after_ms=RETRY_AFTER_MS) from None
        finally:
            self._waiting -= 1
