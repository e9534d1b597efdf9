"""Serves the built-in accounts to operators: making, listing, changing and removing them.

It must not be reached without the `admin` scope. Users change their own by `livechat.http.api.auth`.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from livechat.accounts.error import NoSuchAccount, UserIdTaken
from livechat.accounts.passwords import LENGTH_MAX, LENGTH_MIN
from livechat.accounts.records import Account
from livechat.error import LiveError
from livechat.http.api.auth import BODY_BYTES_MAX, logins_of
from livechat.http.endpoint import API, READING, WRITING, Answer, Call, Endpoint
from livechat.http.problems import NoSuchPath
from livechat.protocol.types import ID_LENGTH_MAX, UserId
from livechat.protocol.validators import between, length
from livechat.tokens.claims import NAME_LENGTH_MAX, SCOPES

PATH: Final = f"{API}/admin/accounts"
LIMIT_MAX: Final = 1000
ERRORS: Final[tuple[type[LiveError], ...]] = (NoSuchPath, *READING)
CHANGING: Final[tuple[type[LiveError], ...]] = (*ERRORS, *WRITING)

ScopeName = Literal["chat", "publish", "admin"]


@attrs.frozen
class AccountCreate:
    """Who gets an account."""

    user_id: UserId
    """Unlike all others' in more than case and width; it may be one that was known in chat before."""
    password: str = attrs.field(validator=length(LENGTH_MIN, LENGTH_MAX), repr=False)
    """Not the user id."""
    display_name: str | None = attrs.field(default=None, validator=length(1, NAME_LENGTH_MAX))
    """What the user is called, for people."""
    scopes: list[ScopeName] = attrs.field(factory=lambda: ["chat"], validator=length(1, len(SCOPES)))
    """What the tokens of the account are good for."""


@attrs.frozen
class NewPassword:
    """What an account's password is to be."""

    password: str = attrs.field(validator=length(LENGTH_MIN, LENGTH_MAX), repr=False)
    """Not the user id."""


@attrs.frozen
class AccountQuery:
    """Which accounts are wanted."""

    after: str = attrs.field(default="", validator=length(0, ID_LENGTH_MAX))
    """The `next` of the page before."""
    limit: int = attrs.field(default=100, validator=between(1, LIMIT_MAX))


@attrs.frozen
class AccountView:
    """An account."""

    user_id: UserId
    scopes: list[ScopeName]
    created_at: int
    """Milliseconds since 1970."""
    display_name: str | None = None


@attrs.frozen
class AccountList:
    """Accounts in binary order of their ids."""

    accounts: list[AccountView]
    next: UserId | None = None
    """Where the next page goes on; null: there is none."""


@attrs.frozen
class AccountName:
    """The account that was changed."""

    user_id: UserId


async def create(call: Call) -> Answer:
    """Make an account."""
    wanted: AccountCreate = call.body
    accounts = logins_of(call).accounts
    made = await accounts.create(
        wanted.user_id, wanted.password, display_name=wanted.display_name, scopes=wanted.scopes
    )
    return Answer(_view(made), 201)


async def list_all(call: Call) -> Answer:
    """Return a page of accounts."""
    wanted: AccountQuery = call.query
    # One more than is wanted, to know whether there is a next page.
    found = await logins_of(call).accounts.list(wanted.after, wanted.limit + 1)
    page = found[: wanted.limit]
    return Answer(
        AccountList([_view(each) for each in page], page[-1].user_id if len(found) > len(page) else None)
    )


async def set_password(call: Call) -> Answer:
    """Give an account another password."""
    wanted: NewPassword = call.body
    return Answer(AccountName(await logins_of(call).accounts.set_password(call.path["user_id"], wanted.password)))


async def delete(call: Call) -> Answer:
    """Remove an account."""
    return Answer(AccountName(await logins_of(call).accounts.delete(call.path["user_id"])))


def _view(account: Account) -> AccountView:
    scopes: list[ScopeName] = [scope for scope in SCOPES if scope in account.scopes]
    return AccountView(account.user_id, scopes, account.created_at, account.display_name)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        PATH,
        list_all,
        "accounts",
        "List accounts",
        "admin",
        query=AccountQuery,
        answers={200: AccountList},
        errors=ERRORS,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        "accounts",
        "Make an account for somebody",
        "admin",
        body=AccountCreate,
        answers={201: AccountView},
        errors=(UserIdTaken, *CHANGING),
        body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        "PUT",
        f"{PATH}/{{user_id}}/password",
        set_password,
        "accounts",
        "Set somebody's password",
        "admin",
        body=NewPassword,
        answers={200: AccountName},
        errors=(NoSuchAccount, *CHANGING),
        description="Ends all logins and sessions of the user.",
        body_bytes_max=BODY_BYTES_MAX,
    ),
    Endpoint(
        "DELETE",
        f"{PATH}/{{user_id}}",
        delete,
        "accounts",
        "Remove an account",
        "admin",
        answers={200: AccountName},
        errors=(NoSuchAccount, *CHANGING),
        description="Ends all logins and sessions of the user. What the user said in channels stays.",
    ),
)
