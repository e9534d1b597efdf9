"""`livechat migrate`, as operators run it."""

from __future__ import annotations

from pathlib import Path

from livechat.store.schema import REVISION
from tests.support.postgres import PostgresServer
from tests.support.process import run_livechat


def migrate(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run it; return its exit status, and what it said on either stream."""
    done = run_livechat("migrate", *arguments, env=env)
    return done.returncode, done.stdout, done.stderr


def test_a_database_is_brought_up_to_date_and_then_left_alone(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.create_database(empty=True)
    config = tmp_path / "livechat.toml"
    config.write_text(f'[livechat.store]\nurl = "{postgres.url(name)}"\n')
    arguments = ("--config", str(config))

    assert migrate(*arguments, "--check") == (1, f"store: empty, behind {REVISION}\n", "")
    assert migrate(*arguments) == (0, f"store: empty -> {REVISION}\n", "")
    assert migrate(*arguments) == (0, f"store: at {REVISION} already\n", "")
    assert migrate(*arguments, "--check") == (0, f"store: at {REVISION} already\n", "")
    postgres.drop_database(name)


def test_it_finds_the_database_where_serve_would(tmp_path: Path) -> None:
    data_dir, elsewhere = tmp_path / "data", tmp_path / "elsewhere.db"
    assert migrate("--data-dir", str(data_dir))[0] == 0
    assert (data_dir / "livechat.db").exists()
    assert migrate(env={"LIVECHAT_STORE_URL": f"sqlite:///{elsewhere}"})[0] == 0
    assert elsewhere.exists()
    assert migrate("--store-url", "memory:", env={"LIVECHAT_STORE_URL": "x:"}) == (
        0,
        "store: nothing to migrate in memory\n",
        "",
    )


def test_what_cannot_be_done_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "livechat.db").write_bytes(b"not a database, though long enough to be taken for one" * 100)
    for arguments, reason in (
        (("--data-dir", str(tmp_path)), "can't be used: file is not a database"),
        (("--data-dir", str(tmp_path), "--check"), "can't be used: file is not a database"),
        (
            ("--store-url", "oracle:x"),
            "store.url: expected sqlite:///path, postgresql://… or memory:, got oracle:…",
        ),
        (
            ("--store-url", "postgresql://u:t0psecret@127.0.0.1:1/db"),
            "the database db on 127.0.0.1:1 can't be migrated",
        ),
        (("--store-url", "postgresql://u:t0psecret@127.0.0.1:1/db", "--check"), "the database db on 127.0.0.1:1 "),
    ):
        status, out, err = migrate(*arguments)
        assert (status, out) == (2, "")
        assert reason in err
        assert err.count("\n") == 1
        assert "t0psecret" not in err
