"""Owns `livechat migrate`: the database of the configuration, brought up to date."""

from __future__ import annotations

from pathlib import Path

import click

from livechat.config import load_config
from livechat.store.opening import look_at_store, migrate_store

BEHIND_STATUS = 1


@click.command(short_help="Bring the database up to date.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database and secret.  [./livechat-data]")
@click.option("--store-url", help="sqlite:///path, postgresql://… or memory:  [SQLite in --data-dir]")
@click.option("--check", is_flag=True, help="Change nothing; exit with status 1 if it is behind.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.")
def migrate(file: Path | None, data_dir: Path | None, store_url: str | None, check: bool) -> int:
    """Bring the database to the revision that this livechat needs.

    Settings come from where `livechat serve` finds them. SQLite is migrated by `livechat serve` too; PostgreSQL is
    not, for other servers may be using it. Several migrations at once wait for each other.
    """
    config = load_config(file, {"data_dir": data_dir, "store.url": store_url})
    config.check()
    look_or_migrate = look_at_store if check else migrate_store
    result = look_or_migrate(config.store.url, config.data_dir)
    if result is None:
        click.echo("store: nothing to migrate in memory")
        return 0
    if result.before == result.after:
        click.echo(f"store: at {result.after} already")
        return 0
    before = result.before or "empty"
    click.echo(f"store: {before}, behind {result.after}" if check else f"store: {before} -> {result.after}")
    return BEHIND_STATUS if check else 0
