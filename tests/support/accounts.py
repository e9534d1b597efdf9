"""Accounts with hashes that cost nothing, and what tests of them share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from livechat.accounts.hashing import Hasher
from livechat.accounts.logins import Logins
from livechat.accounts.records import Ended
from livechat.accounts.settings import AccountSettings
from livechat.store.base import Store
from livechat.tokens.claims import Claims
from livechat.tokens.issuer import TokenIssuer
from livechat.tokens.keys import KeyRing
from livechat.tokens.own_keys import derived_key
from livechat.tokens.revocations import MemoryRevocations
from livechat.tokens.settings import AuthSettings
from livechat.tokens.verifier import TokenVerifier
from tests.support.store import OpenStore

QUICK = AccountSettings(argon2_memory_kib=8, argon2_passes=1)
PASSWORD = "correct horse"
NEW_PASSWORD = "battery staple"
HOST = "192.0.2.1"


class WatchedHasher(Hasher):
    """Counts, and lets a test do something once a password was checked."""

    def __init__(self, settings: AccountSettings, then: Callable[[], Awaitable[object]] | None = None) -> None:
        super().__init__(settings)
        self.without_hash: list[bool] = []
        """Of each check, whether there was nothing to check against."""
        self._then = then

    async def verify(self, prepared: bytes, password_hash: str | None) -> bool:
        """See `Hasher`."""
        self.without_hash.append(password_hash is None)
        is_right = await super().verify(prepared, password_hash)
        if self._then is not None:
            await self._then()
        return is_right


@attrs.define
class Stage:
    """The logins of a store, with clocks that stand still until a test moves them."""

    store: Store
    settings: AccountSettings
    now: float = 1000.0
    now_ms: int = 1_800_000_000_000
    ended: list[tuple[Ended, bool]] = attrs.field(factory=list)
    """What was told to have ended."""
    revocations: MemoryRevocations = attrs.field(init=False)
    logins: Logins = attrs.field(init=False)
    verifier: TokenVerifier = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        keys = KeyRing((derived_key("a-secret-for-tests-only"),))
        auth = AuthSettings()
        self.revocations = MemoryRevocations(lambda: self.now_ms)
        self.verifier = TokenVerifier(keys, auth, lambda: self.now_ms)
        self.logins = Logins(
            self.store,
            self.settings,
            TokenIssuer(keys, auth, lambda: self.now_ms),
            self.revocations,
            lambda ended, is_all: self.ended.append((ended, is_all)),
            now=lambda: self.now,
            now_ms=lambda: self.now_ms,
        )

    def wait(self, seconds: float) -> None:
        """Move the clocks on."""
        self.now += seconds
        self.now_ms += round(seconds * 1000)

    def claims(self, token: str) -> Claims:
        """Return what an access token says; it must be good now."""
        return self.verifier.verify_untrusted(token)

    def ended_families(self) -> list[str]:
        """Return the logins that were told to have ended, in that order."""
        return [family.family_id for ended, _ in self.ended for family in ended.families]


@asynccontextmanager
async def staged(open_store: OpenStore, **settings: Any) -> AsyncGenerator[Stage]:
    """Open a store with an account for ann."""
    with trio.fail_after(60):
        async with open_store() as store:
            stage = Stage(store, attrs.evolve(QUICK, **settings))
            await stage.logins.accounts.create("ann", PASSWORD)
            yield stage
