"""Owns what accounts do to their tables: each function is the work of one transaction (`Transact`).

It must not wait, hash or make random bytes: it runs in the store's thread, and may run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
import sqlalchemy as sa

from livechat.accounts.error import NoSuchAccount, UserIdTaken, WrongPassword
from livechat.accounts.families import Family, RefreshToken, Verdict, judge, surplus
from livechat.error import InvalidToken
from livechat.protocol.types import UserId
from livechat.store.schema import ACCOUNT, ACCOUNT_FAMILY
from livechat.store.side import Tables

PRUNED_MAX: Final = 500
"""Families removed in one transaction: chat waits for it."""

_account = ACCOUNT.c
_family = ACCOUNT_FAMILY.c

_BY_NAME: Final = sa.select(ACCOUNT).where(_account.same_as == sa.bindparam("name"))
_BY_ID: Final = sa.select(ACCOUNT).where(_account.user_id == sa.bindparam("id"))
_FAMILIES_OF: Final = (
    sa.select(ACCOUNT_FAMILY)
    .where(_family.user_id == sa.bindparam("id"), _family.revoked_at.is_(None))
    .where(_family.expires_at > sa.bindparam("now"))
)
_FAMILY: Final = sa.select(ACCOUNT_FAMILY).where(_family.selector == sa.bindparam("wanted"))
_REVOKE: Final = (
    sa.update(ACCOUNT_FAMILY)
    .where(_family.family_id == sa.bindparam("id"), _family.revoked_at.is_(None))
    # It is of use only while its access tokens live: to know after a restart that they are revoked.
    .values(revoked_at=sa.bindparam("now"), expires_at=_family.access_until)
)
_ROTATE: Final = (
    sa.update(ACCOUNT_FAMILY)
    .where(_family.family_id == sa.bindparam("id"))
    .values(
        digest=sa.bindparam("new_digest"),
        expires_at=sa.bindparam("new_end"),
        access_until=sa.bindparam("new_access_end"),
    )
)
_INSERT_FAMILY: Final = sa.insert(ACCOUNT_FAMILY).values(
    family_id=sa.bindparam("id"),
    user_id=sa.bindparam("the_user"),
    selector=sa.bindparam("the_selector"),
    digest=sa.bindparam("the_digest"),
    started_at=sa.bindparam("start"),
    expires_at=sa.bindparam("end"),
    access_until=sa.bindparam("access_end"),
    revoked_at=None,
)


@attrs.frozen
class Account:
    """What is kept of an account."""

    user_id: UserId
    same_as: str
    password_hash: str = attrs.field(repr=False)
    display_name: str | None
    scopes: tuple[str, ...]
    created_at: int
    """Milliseconds since 1970."""


@attrs.frozen
class Ended:
    """Logins that were ended, for whoever closes their sessions."""

    user_id: UserId
    families: tuple[Family, ...]


@attrs.frozen
class Shown:
    """What became of a refresh token that was shown."""

    verdict: Verdict
    family: Family
    """As it was before."""
    accounts: tuple[Account, ...]
    """The one that it belongs to; empty: it was deleted."""


def find(same_as: str) -> Callable[[Tables], tuple[Account, ...]]:
    """Return the account that a user id stands for, whatever its case; empty: there is none."""
    return lambda tables: tuple(map(_to_account, tables.execute(_BY_NAME, {"name": same_as}).all()))


def insert(account: Account) -> Callable[[Tables], Account]:
    """Make an account.

    Raises:
        UserIdTaken: there is one whose id would be taken for this one.
    """

    def work(tables: Tables) -> Account:
        if find(account.same_as)(tables):
            raise UserIdTaken("user_id: taken")
        row = attrs.asdict(account) | {"scopes": " ".join(account.scopes)}
        tables.execute(sa.insert(ACCOUNT).values(**row))
        return account

    return work


def listed(after: str, limit: int) -> Callable[[Tables], list[Account]]:
    """Return accounts in the order of their ids.

    Args:
        after: the last id of the page before.
    """
    statement = sa.select(ACCOUNT).where(_account.user_id > after).order_by(_account.user_id).limit(limit)
    return lambda tables: [_to_account(row) for row in tables.execute(statement).all()]


def set_password(same_as: str, password_hash: str, now_ms: int) -> Callable[[Tables], Ended]:
    """Give an account another password, and end all its logins.

    Raises:
        NoSuchAccount: there is none.
    """

    def work(tables: Tables) -> Ended:
        account = _need(tables, same_as)
        tables.execute(
            sa.update(ACCOUNT).where(_account.user_id == account.user_id).values(password_hash=password_hash)
        )
        return Ended(account.user_id, _end_all(tables, account.user_id, now_ms))

    return work


def replace_hash(user_id: UserId, old_hash: str, new_hash: str) -> Callable[[Tables], int]:
    """Keep the same password as another hash, unless the password was changed meanwhile."""
    statement = (
        sa.update(ACCOUNT)
        .where(_account.user_id == user_id, _account.password_hash == old_hash)
        .values(password_hash=new_hash)
    )
    return lambda tables: tables.execute(statement).rowcount


def delete(same_as: str, now_ms: int) -> Callable[[Tables], Ended]:
    """Remove an account, and end all its logins.

    Raises:
        NoSuchAccount: there is none.
    """

    def work(tables: Tables) -> Ended:
        account = _need(tables, same_as)
        tables.execute(sa.delete(ACCOUNT).where(_account.user_id == account.user_id))
        return Ended(account.user_id, _end_all(tables, account.user_id, now_ms))

    return work


def begin_family(
    account: Account, family: Family, selector: str, most: int, now_ms: int
) -> Callable[[Tables], Ended]:
    """Begin a login of an account whose password was proven; return those that end for it.

    Args:
        most: logins that a user may have.

    Raises:
        WrongPassword: the password was changed, or the account removed, since it was proven.
    """

    def work(tables: Tables) -> Ended:
        if [each.password_hash for each in _owner(tables, account.user_id)] != [account.password_hash]:
            raise WrongPassword("user_id, password: not those of an account")
        live = {each.family_id: each for each in _live(tables, account.user_id, now_ms)}
        too_many = surplus([(each.family_id, each.expires_at) for each in live.values()], most)
        ended = _end(tables, [live[family_id] for family_id in too_many], now_ms)
        values = {"id": family.family_id, "the_user": family.user_id, "the_selector": selector}
        times = {"start": family.started_at, "end": family.expires_at, "access_end": family.access_until}
        tables.execute(_INSERT_FAMILY, {**values, **times, "the_digest": family.digest})
        return Ended(account.user_id, ended)

    return work


def refresh(
    shown: RefreshToken, following: RefreshToken, now_ms: int, ends: Callable[[Family], tuple[int, int]]
) -> Callable[[Tables], Shown]:
    """Put the next token in the place of one that was shown, or end the family of one that was replaced.

    Args:
        ends: from a family to when it ends if refreshed now, and when an access token issued with that does.

    Raises:
        InvalidToken: no family has such a token.
    """

    def work(tables: Tables) -> Shown:
        family = _need_family(tables, shown)
        verdict = judge(family, shown, now_ms)
        owner = _owner(tables, family.user_id)
        if verdict is Verdict.REUSED:
            _end(tables, [family], now_ms)
        elif verdict is Verdict.ROTATE and owner:
            end, access_end = ends(family)
            values = {"id": family.family_id, "new_digest": following.digest, "new_end": end}
            tables.execute(_ROTATE, {**values, "new_access_end": max(family.access_until, access_end)})
        return Shown(verdict, family, owner)

    return work


def end_by_token(shown: RefreshToken, everywhere: bool, now_ms: int) -> Callable[[Tables], Ended]:
    """End the login of a refresh token, be it one that was replaced: showing that ends the login anyway.

    Args:
        everywhere: all logins of the user; only by the newest token.

    Raises:
        InvalidToken: no living login has or had such a token, or one that was replaced is to end others.
    """

    def work(tables: Tables) -> Ended:
        family = _need_family(tables, shown)
        verdict = judge(family, shown, now_ms)
        if verdict is Verdict.ENDED:
            raise InvalidToken("refresh_token: its login has ended")
        if verdict is Verdict.ROTATE and everywhere:
            return Ended(family.user_id, _end_all(tables, family.user_id, now_ms))
        return Ended(family.user_id, _end(tables, [family], now_ms))

    return work


def end_family(user_id: UserId, family_id: str, now_ms: int) -> Callable[[Tables], Ended]:
    """End one login, if it has not ended."""

    def work(tables: Tables) -> Ended:
        mine = [each for each in _live(tables, user_id, now_ms) if each.family_id == family_id]
        return Ended(user_id, _end(tables, mine, now_ms))

    return work


def end_all(user_id: UserId, now_ms: int) -> Callable[[Tables], Ended]:
    """End all logins of a user."""
    return lambda tables: Ended(user_id, _end_all(tables, user_id, now_ms))


def revoked(now_ms: int) -> Callable[[Tables], list[tuple[str, int]]]:
    """Return families that have ended before their access tokens have: (family id, until when those live)."""
    statement = sa.select(_family.family_id, _family.access_until).where(
        _family.revoked_at.is_not(None), _family.access_until > now_ms
    )
    return lambda tables: [(row[0], row[1]) for row in tables.execute(statement).all()]


def prune(now_ms: int) -> Callable[[Tables], int]:
    """Remove what has ended; return how many, `PRUNED_MAX` at most."""
    some = sa.select(_family.family_id).where(_family.expires_at <= now_ms).limit(PRUNED_MAX)
    statement = sa.delete(ACCOUNT_FAMILY).where(_family.family_id.in_(some))
    return lambda tables: tables.execute(statement).rowcount


def _need(tables: Tables, same_as: str) -> Account:
    for account in find(same_as)(tables):
        return account
    raise NoSuchAccount("user_id: there is no such account")


def _owner(tables: Tables, user_id: UserId) -> tuple[Account, ...]:
    return tuple(map(_to_account, tables.execute(_BY_ID, {"id": user_id}).all()))


def _need_family(tables: Tables, shown: RefreshToken) -> Family:
    row = tables.execute(_FAMILY, {"wanted": shown.selector}).first()
    if row is None:
        raise InvalidToken("refresh_token: not one of this server")
    return _to_family(row)


def _live(tables: Tables, user_id: UserId, now_ms: int) -> list[Family]:
    return [_to_family(row) for row in tables.execute(_FAMILIES_OF, {"id": user_id, "now": now_ms}).all()]


def _end_all(tables: Tables, user_id: UserId, now_ms: int) -> tuple[Family, ...]:
    return _end(tables, _live(tables, user_id, now_ms), now_ms)


def _end(tables: Tables, families: Iterable[Family], now_ms: int) -> tuple[Family, ...]:
    ended = tuple(families)
    for family in ended:
        tables.execute(_REVOKE, {"id": family.family_id, "now": now_ms})
    return ended


def _to_account(row: tuple[Any, ...]) -> Account:
    user_id, same_as, password_hash, display_name, scopes, created_at = row
    return Account(UserId(user_id), same_as, password_hash, display_name, tuple(scopes.split()), created_at)


def _to_family(row: tuple[Any, ...]) -> Family:
    family_id, user_id, _selector, digest, started_at, expires_at, access_until, revoked_at = row
    return Family(family_id, UserId(user_id), digest, started_at, expires_at, access_until, revoked_at)
