"""Owns what operators and embedders do with accounts: make, list, change and remove them.

It must not decide who may; whoever calls it may all. Logins are `livechat.accounts.logins`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from livechat.accounts import records
from livechat.accounts.error import UserIdTaken
from livechat.accounts.hashing import Hasher
from livechat.accounts.passwords import check_new_id, prepare_new, same_as
from livechat.accounts.records import Account, Ended
from livechat.accounts.settings import AccountSettings
from livechat.error import ProtocolError
from livechat.protocol.types import UserId, is_text
from livechat.store.base import Store, perform
from livechat.store.operations import LoadUser
from livechat.store.side import Transact
from livechat.tokens.claims import NAME_LENGTH_MAX, SCOPES

log = structlog.get_logger("livechat.accounts")

PAGE_MAX: Final = 10_000

TellEnded = Callable[[Ended, bool], None]
"""Called once logins have ended in the store: closes their sessions, or with True all of the user's."""


class Accounts:
    """The accounts of a store.

    Args:
        now_ms: milliseconds since 1970.
        tell_ended: called with what ends because a password was set or an account removed.
    """

    def __init__(
        self, store: Store, settings: AccountSettings, now_ms: Callable[[], int], tell_ended: TellEnded
    ) -> None:
        self.hasher = Hasher(settings)
        self._store = store
        self._now_ms = now_ms
        self._tell_ended = tell_ended

    async def create(
        self,
        user_id: str,
        password: str,
        *,
        display_name: str | None = None,
        scopes: Iterable[str] = ("chat",),
        stranger: bool = False,
    ) -> Account:
        """Make an account.

        Args:
            user_id: 1-64 letters, digits or `_ . : @ -`, unlike all others' in more than case and width.
            password: 8-1024 characters, and not the user id.
            display_name: 1-100 characters for people; stated in tokens.
            scopes: of its tokens: `chat`, `publish`, `admin`.
            stranger: who asks is not known, so what somebody left here under this id is not handed over.

        Raises:
            ProtocolError: a field is not as it must be; the text names it.
            UserIdTaken: there is such an account or, to a stranger, such a user.
            Overloaded: too many passwords are being hashed.
            NotPersisted: the store is away.
        """
        check_new_id(user_id)
        _check_display_name(display_name)
        scopes = tuple(dict.fromkeys(scopes))
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ProtocolError(f"scopes: expected some of {', '.join(SCOPES)}")
        prepared = prepare_new(password, user_id)
        # Before the costly part; the last word is the insert's.
        if await self.find(user_id) is not None or (stranger and await self._has_history(UserId(user_id))):
            raise UserIdTaken("user_id: taken")
        password_hash = await self.hasher.hash(prepared)
        account = Account(UserId(user_id), same_as(user_id), password_hash, display_name, scopes, self._now_ms())
        await perform(self._store, Transact(records.insert(account)))
        log.info("account made", user_id=user_id)
        return account

    async def find(self, user_id: str) -> Account | None:
        """Return the account that a user id stands for, in whatever case; None: there is none.

        Raises:
            BackendUnavailable: the store is away.
        """
        found = await perform(self._store, Transact(records.find(same_as(user_id)), writes=False))
        return found[0] if found else None

    async def list(self, after: str = "", limit: int = 1000) -> list[Account]:
        """Return accounts in binary order of their ids.

        Args:
            after: the last id of the page before.
            limit: 1-10000.

        Raises:
            BackendUnavailable: the store is away.
        """
        return await perform(self._store, Transact(records.listed(after, min(limit, PAGE_MAX)), writes=False))

    async def set_password(self, user_id: str, password: str) -> UserId:
        """Give an account another password, and end all its logins; return its id.

        Raises:
            NoSuchAccount: there is none.
            LiveError: see `create`.
        """
        password_hash = await self.hasher.hash(prepare_new(password, user_id))
        work = records.set_password(same_as(user_id), password_hash, self._now_ms())
        return self._ended(await perform(self._store, Transact(work)), "password set")

    async def delete(self, user_id: str) -> UserId:
        """Remove an account, and end all its logins; return its id. What the user said in channels stays.

        Raises:
            NoSuchAccount: there is none.
            NotPersisted: the store is away.
        """
        work = records.delete(same_as(user_id), self._now_ms())
        return self._ended(await perform(self._store, Transact(work)), "account removed")

    def _ended(self, ended: Ended, what: str) -> UserId:
        log.info(what, user_id=ended.user_id, logins=len(ended.families))
        self._tell_ended(ended, True)
        return ended.user_id

    async def _has_history(self, user_id: UserId) -> bool:
        """Tell whether somebody of this id was here, by the shared secret or others' tokens."""
        view = await perform(self._store, LoadUser(user_id, self._now_ms()))
        return bool(view.states or view.user.settings or view.user.last_seen or view.user.last_logout)


def _check_display_name(name: str | None) -> None:
    if name is not None and not (1 <= len(name) <= NAME_LENGTH_MAX and is_text(name)):
        raise ProtocolError(f"display_name: expected 1 to {NAME_LENGTH_MAX} characters")
