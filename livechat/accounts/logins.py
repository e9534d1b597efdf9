"""Owns logins: by which steps a password becomes tokens, tokens become new ones, and how it all ends.

It must not know HTTP or sessions: it is told the address of who asks, and tells whose logins have ended.

    log in    attempts → find → hash (also where nobody was found) → store → access token
    refresh   attempts → parse → store: rotated, or the family ends → access token
    log out   store → the sessions of the family, or all of the user's, end
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from livechat.accounts import records
from livechat.accounts.attempts import Attempts, address_of
from livechat.accounts.book import Accounts, TellEnded
from livechat.accounts.error import WrongPassword
from livechat.accounts.families import (
    FAMILY_ID_BYTES,
    Family,
    RefreshToken,
    Verdict,
    expiry,
    new_token,
    parse_token_untrusted,
)
from livechat.accounts.passwords import prepare, prepare_new, same_as
from livechat.accounts.records import Account, Ended
from livechat.accounts.settings import AccountSettings
from livechat.error import Forbidden, InvalidToken, LiveError, ProtocolError, RateLimited
from livechat.protocol.types import UserId
from livechat.store.base import Store, perform
from livechat.store.side import Tables, Transact
from livechat.tokens.issuer import TokenIssuer
from livechat.tokens.revocations import Revocations

log = structlog.get_logger("livechat.accounts")

PRUNE_INTERVAL_S: Final = 3600.0


@attrs.frozen
class Tokens:
    """What a login gives."""

    user_id: UserId
    display_name: str | None
    access_token: str = attrs.field(repr=False)
    access_expires_at: int
    """Milliseconds since 1970, as both times here."""
    refresh_token: str = attrs.field(repr=False)
    refresh_expires_at: int


class Logins:
    """The logins of a server.

    Args:
        now: monotonic seconds.
        now_ms: milliseconds since 1970.
        tell_ended: called with what has ended, and whether all sessions of the user are to.
    """

    def __init__(
        self,
        store: Store,
        settings: AccountSettings,
        issuer: TokenIssuer,
        revocations: Revocations,
        tell_ended: TellEnded,
        *,
        now: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self.accounts = Accounts(store, settings, now_ms, tell_ended)
        self.settings = settings
        self._store = store
        self._issuer = issuer
        self._revocations = revocations
        self._tell_ended = tell_ended
        self._attempts = Attempts(settings)
        self._now = now
        self._now_ms = now_ms

    async def start(self) -> None:
        """Remember which access tokens were revoked before the server was started.

        Raises:
            LiveError: the store does not answer.
        """
        work = records.revoked(self._now_ms())
        for family_id, until_ms in await perform(self._store, Transact(work, writes=False)):
            self._revocations.revoke_token(family_id, until_ms)

    async def run(self) -> None:
        """Remove logins that have ended, again and again."""
        try:
            await self.accounts.hasher.prepare()
        except LiveError:
            pass  # then the first unknown user costs a hash more
        while True:
            try:
                while await perform(self._store, Transact(records.prune(self._now_ms()))):
                    pass
            except LiveError as exc:
                log.warning("logins not pruned", error=exc.reason)
            await trio.sleep(PRUNE_INTERVAL_S)

    async def register(self, user_id: str, password: str, display_name: str | None, host: str) -> Tokens:
        """Make an account for somebody who is not known, and log in to it.

        Args:
            host: the IP literal that he is at.

        Raises:
            RateLimited: too many accounts were made from there.
            LiveError: see `Accounts.create`.
        """
        _let_through("user_id", self._attempts.begin_registration(address_of(host), self._now()))
        account = await self.accounts.create(user_id, password, display_name=display_name, stranger=True)
        return await self._begin(account)

    async def log_in(self, user_id: str, password: str, host: str) -> Tokens:
        """Begin a login.

        Args:
            user_id: in any case.
            host: the IP literal of who asks.

        Raises:
            WrongPassword: no account has this id and this password; for both it takes the same time.
            RateLimited: there were too many attempts with this account, or failures from there.
            Forbidden: the user is kept out for now.
            Overloaded: too many passwords are being checked.
            NotPersisted, BackendUnavailable: the store is away.
        """
        return await self._attempt(user_id, host, partial(self._log_in, user_id, password))

    async def change_password(self, user_id: str, password: str, new_password: str, host: str) -> Tokens:
        """Give an account another password by its owner's wish, end all its logins and begin a new one.

        Args:
            host: the IP literal of who asks.

        Raises:
            ProtocolError: the new password is not as it must be.
            LiveError: see `log_in`.
        """
        return await self._attempt(user_id, host, partial(self._change_password, user_id, password, new_password))

    async def _attempt(self, user_id: str, host: str, work: Callable[[], Awaitable[Tokens]]) -> Tokens:
        """Do what takes a password; how often somebody may try is limited."""
        name, address = same_as(user_id), address_of(host)
        _let_through("user_id", self._attempts.begin_login(name, address, self._now()))
        try:
            tokens = await work()
        except WrongPassword:
            log.info("login refused", user_id=user_id, host=host)
            raise
        except LiveError:
            self._attempts.login_withdrawn(name, address)
            raise
        self._attempts.login_succeeded(name, address)
        return tokens

    async def refresh(self, text: str, host: str) -> Tokens:
        """Go on with a login: its refresh token is replaced, and counts no more.

        Raises:
            InvalidToken: no login goes on with this token. One that was replaced ends its login.
            RateLimited: too many from there failed.
            NotPersisted: the store is away.
        """
        address = address_of(host)
        _let_through("refresh_token", self._attempts.begin_proof(address, self._now()))
        shown = parse_token_untrusted(text)
        following = shown.next(secrets.token_bytes)
        now_ms = self._now_ms()
        work = records.refresh(shown, following, now_ms, partial(self._ends, now_ms))
        result = await perform(self._store, Transact(work))
        family = result.family
        if result.verdict is Verdict.REUSED:
            log.warning("refresh token reused", user_id=family.user_id, host=host)
            self._tell_ended(Ended(family.user_id, (family,)), False)
            raise InvalidToken("refresh_token: was replaced before; its login has ended")
        if result.verdict is Verdict.ENDED or not result.accounts:
            raise InvalidToken("refresh_token: its login has ended")
        # Whoever revoked all that the user had by then, meant logins as well.
        if self._revocations.is_revoked(family.user_id, family.family_id, family.started_at):
            await self._end(records.end_family(family.user_id, family.family_id, now_ms))
            raise InvalidToken("refresh_token: its login has ended")
        self._attempts.proof_succeeded(address)
        return self._issue(result.accounts[0], family, following, now_ms)

    async def log_out(self, text: str, host: str, *, everywhere: bool = False) -> None:
        """End the login of a refresh token, or all of its user's.

        Raises:
            InvalidToken: no login goes on with this token.
            RateLimited: too many from there failed.
            NotPersisted: the store is away.
        """
        address = address_of(host)
        _let_through("refresh_token", self._attempts.begin_proof(address, self._now()))
        shown = parse_token_untrusted(text)
        await self._end(records.end_by_token(shown, everywhere, self._now_ms()), is_all=everywhere)
        self._attempts.proof_succeeded(address)

    async def end(self, user_id: UserId, family_id: str) -> bool:
        """End one login of a user; return whether there was such a one.

        Raises:
            NotPersisted: the store is away.
        """
        ended = await self._end(records.end_family(user_id, family_id, self._now_ms()))
        return bool(ended.families)

    async def end_all(self, user_id: UserId) -> None:
        """End all logins of a user, and all sessions, however they began.

        Raises:
            NotPersisted: the store is away.
        """
        await self._end(records.end_all(user_id, self._now_ms()), is_all=True)

    async def _log_in(self, user_id: str, password: str) -> Tokens:
        return await self._begin(await self._prove(user_id, password))

    async def _change_password(self, user_id: str, password: str, new_password: str) -> Tokens:
        account = await self._prove(user_id, password)
        try:
            prepare_new(new_password, account.user_id)
        except ProtocolError as exc:
            raise ProtocolError(f"new_{exc.reason}") from None
        await self.accounts.set_password(account.user_id, new_password)
        return await self._log_in(account.user_id, new_password)

    # --- steps ------------------------------------------------------------------------------------------

    async def _prove(self, user_id: str, password: str) -> Account:
        """Return the account that has a password. Nothing that depends on the account is skipped without it."""
        account = await self.accounts.find(user_id)
        try:
            prepared = prepare(password)
        except ProtocolError:
            # Nobody has such a password; the time must not say whether the account is there.
            prepared, account = b"", None
        hasher = self.accounts.hasher
        is_right = await hasher.verify(prepared, None if account is None else account.password_hash)
        if account is None or not is_right:
            raise WrongPassword("user_id, password: not those of an account")
        return await self._strengthen(account, prepared)

    async def _strengthen(self, account: Account, prepared: bytes) -> Account:
        """Hash a password anew whose hash is weaker than new ones are; if that fails, another time."""
        hasher = self.accounts.hasher
        if not hasher.is_outdated(account.password_hash):
            return account
        try:
            stronger = await hasher.hash(prepared)
            work = records.replace_hash(account.user_id, account.password_hash, stronger)
            if await perform(self._store, Transact(work)):
                return attrs.evolve(account, password_hash=stronger)
        except LiveError as exc:
            log.info("password not hashed anew", user_id=account.user_id, error=exc.reason)
        return account

    async def _begin(self, account: Account) -> Tokens:
        now_ms = self._now_ms()
        if self._revocations.is_revoked(account.user_id, None, now_ms):
            raise Forbidden("user_id: kept out for now")
        token = new_token(secrets.token_bytes)
        family_id = base64.urlsafe_b64encode(secrets.token_bytes(FAMILY_ID_BYTES)).rstrip(b"=").decode()
        family = Family(family_id, account.user_id, token.digest, now_ms, 0, 0)
        expires_at, access_until = self._ends(now_ms, family)
        family = attrs.evolve(family, expires_at=expires_at, access_until=access_until)
        most = self.settings.logins_per_user
        await self._end(records.begin_family(account, family, token.selector, most, now_ms))
        return self._issue(account, family, token, now_ms)

    def _ends(self, now_ms: int, family: Family) -> tuple[int, int]:
        """Return until when a login goes on, and until when an access token of it may live."""
        expires_at = expiry(family.started_at, now_ms, self.settings)
        return expires_at, min(now_ms + self.settings.access_lifetime_s * 1000, expires_at)

    def _issue(self, account: Account, family: Family, token: RefreshToken, now_ms: int) -> Tokens:
        expires_at, access_until = self._ends(now_ms, family)
        # From the time of the transaction on, so that it ends when that says.
        lifetime_s = max(1, access_until - self._now_ms()) / 1000
        issued = self._issuer.issue(
            account.user_id, account.scopes, lifetime_s, name=account.display_name, family_id=family.family_id
        )
        return Tokens(
            account.user_id, account.display_name, issued.token, issued.expires_at, token.text, expires_at
        )

    async def _end(self, work: Callable[[Tables], Ended], *, is_all: bool = False) -> Ended:
        ended = await perform(self._store, Transact(work))
        if ended.families or is_all:
            log.info("logged out", user_id=ended.user_id, logins=len(ended.families), everywhere=is_all)
            self._tell_ended(ended, is_all)
        return ended


def _let_through(field: str, retry_after_ms: int | None) -> None:
    if retry_after_ms is not None:
        raise RateLimited(f"{field}: too many attempts", retry_after_ms=retry_after_ms)
