"""Owns `livechat user`: the built-in accounts, made and changed by the operator.

It must not take a password from the arguments: those show in the list of processes and stay in the shell's
history.

A running server is asked over HTTP, so that sessions end at once with their account, and because SQLite is its own
while it runs. Where none listens, the store of the configuration is opened instead.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import attrs
import click
import structlog
import trio

from livechat.accounts.book import Accounts
from livechat.accounts.records import Account
from livechat.cli.remote import Remote, find_remote, one_line, remote_options, segment
from livechat.cli.token import split_list
from livechat.config import Config, load_config
from livechat.error import ConfigError, LiveError
from livechat.store.location import MemoryLocation, locate
from livechat.store.opening import open_store
from livechat.tokens.claims import SCOPES
from livechat.tokens.issuer import wall_clock_ms

T = TypeVar("T")

PROBE_TIMEOUT_S: Final = 5.0
LINE_CHARS_MAX: Final = 8192
PATH: Final = "/admin/accounts"


@attrs.frozen
class Row:
    """What is shown of an account."""

    user_id: str
    scopes: tuple[str, ...]
    display_name: str | None


class Book(Protocol):
    """Where accounts are kept, as the commands see it. Every method raises `ConfigError`, in one line."""

    def add(self, user_id: str, password: str, name: str | None, scopes: tuple[str, ...]) -> str:
        """Make an account; return its id."""
        ...

    def set_password(self, user_id: str, password: str) -> str:
        """Give an account another password; return its id."""
        ...

    def remove(self, user_id: str) -> str:
        """Remove an account; return its id."""
        ...

    def rows(self) -> Iterable[Row]:
        """Yield all accounts."""
        ...


@attrs.frozen
class RemoteBook:
    """Of a running server."""

    _remote: Remote

    def add(self, user_id: str, password: str, name: str | None, scopes: tuple[str, ...]) -> str:
        """See `Book`."""
        body = {"user_id": user_id, "password": password, "display_name": name, "scopes": scopes}
        return self._ask("POST", PATH, body)

    def set_password(self, user_id: str, password: str) -> str:
        """See `Book`."""
        return self._ask("PUT", f"{PATH}/{segment(user_id)}/password", {"password": password})

    def remove(self, user_id: str) -> str:
        """See `Book`."""
        return self._ask("DELETE", f"{PATH}/{segment(user_id)}")

    def rows(self) -> Iterable[Row]:
        """See `Book`."""
        for each in self._remote.pages(PATH, "accounts"):
            yield Row(each["user_id"], tuple(each["scopes"]), each.get("display_name"))

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> str:
        return str(self._remote.ask(method, path, body=body, expects="user_id")["user_id"])


@attrs.frozen
class StoredBook:
    """Of a store that no server has open, or that takes several."""

    _config: Config

    def add(self, user_id: str, password: str, name: str | None, scopes: tuple[str, ...]) -> str:
        """See `Book`."""
        return self._run(
            lambda accounts: accounts.create(user_id, password, display_name=name, scopes=scopes)
        ).user_id

    def set_password(self, user_id: str, password: str) -> str:
        """See `Book`."""
        return self._run(lambda accounts: accounts.set_password(user_id, password))

    def remove(self, user_id: str) -> str:
        """See `Book`."""
        return self._run(lambda accounts: accounts.delete(user_id))

    def rows(self) -> Iterable[Row]:
        """See `Book`."""
        for account in self._run(_all):
            yield Row(account.user_id, account.scopes, account.display_name)

    def _run(self, act: Callable[[Accounts], Awaitable[T]]) -> T:
        config = self._config
        config.check()
        if not config.accounts.enabled or config.auth.mode == "shared-secret":
            raise ConfigError("accounts are switched off by accounts.enabled or auth.mode")
        if isinstance(locate(config.store.url, config.data_dir), MemoryLocation):
            raise ConfigError("store.url: what is kept in memory takes a running server; none listens")
        # What accounts log is for servers; the commands say it themselves.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))

        async def run() -> T:
            settings = config.store
            timeout_s = settings.timeout_ms / 1000
            async with open_store(
                settings.url,
                config.data_dir,
                timeout_s=timeout_s,
                queue_max=settings.queue_max,
                synchronous=settings.synchronous,
            ) as store:
                # No server, no sessions: what ends is in the store.
                return await act(Accounts(store, config.accounts, wall_clock_ms, lambda _ended, _is_all: None))

        try:
            return trio.run(run)
        except LiveError as exc:
            raise ConfigError(exc.reason) from exc


async def _all(accounts: Accounts) -> list[Account]:
    found: list[Account] = []
    while page := await accounts.list(found[-1].user_id if found else ""):
        found += page
    return found


@click.group(short_help="Make, change, list and remove accounts.")
def user() -> None:
    """Make, change and remove accounts; of the running server, or in its store while none runs."""


@user.command()
@click.argument("user_id", metavar="USER")
@click.option("--name", help="What the user is called, for people.")
@click.option(
    "--scope", "scopes", multiple=True, default=("chat",), help=f"{', '.join(SCOPES)}; several times.  [chat]"
)
@remote_options
def add(user_id: str, name: str | None, scopes: tuple[str, ...], **where: Any) -> None:
    """Make an account for USER. The password is asked for, or read from standard input."""
    book = find_book(**where)
    made = book.add(user_id, read_password(user_id), name, split_list(scopes))
    click.echo(f"made {made}")


@user.command()
@click.argument("user_id", metavar="USER")
@remote_options
def passwd(user_id: str, **where: Any) -> None:
    """Set the password of USER, and end all logins. It is asked for, or read from standard input."""
    book = find_book(**where)
    changed = book.set_password(user_id, read_password(user_id))
    click.echo(f"changed {changed}; all logins have ended")


@user.command()
@click.argument("user_id", metavar="USER")
@remote_options
def remove(user_id: str, **where: Any) -> None:
    """Remove the account of USER, and end all logins. What USER said in channels stays."""
    click.echo(f"removed {find_book(**where).remove(user_id)}")


@user.command("list")
@remote_options
def list_all(**where: Any) -> None:
    """List accounts: id, scopes and name, with tabs between."""
    for row in find_book(**where).rows():
        click.echo("\t".join([row.user_id, ",".join(row.scopes), one_line(row.display_name or "")]))


def find_book(server: str | None, cacert: Path | None, data_dir: Path | None, file: Path | None) -> Book:
    """Return the accounts that are meant: those of the server, or of the store if none is named and none listens.

    Raises:
        ConfigError: a setting is wrong.
    """
    config = load_config(file, {"data_dir": data_dir})
    if server is None and not _listens(config):
        return StoredBook(config)
    return RemoteBook(find_remote(server, cacert, data_dir, file))


def _listens(config: Config) -> bool:
    """Tell whether something listens where the server of a configuration does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - compared, not bound
    try:
        socket.create_connection((host, config.port), PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def read_password(user_id: str) -> str:
    """Ask for a password twice or, where nobody can be asked, read the first line of standard input.

    Raises:
        ConfigError: there is none.
    """
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {user_id}", hide_input=True, confirmation_prompt=True))
    try:
        password = sys.stdin.readline(LINE_CHARS_MAX).rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError("password: expected text on standard input") from None
    if not password:
        raise ConfigError("password: expected on standard input")
    return password
