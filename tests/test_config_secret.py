"""The shared secret: which one is good enough, and where one is kept that nobody configured."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from livechat.config import Config, check_secret, obtain_secret, read_secret, secret_path
from livechat.error import ConfigError
from tests.support.terminal import assert_fit_for_a_terminal


@pytest.mark.parametrize(
    "secret",
    [
        "x",
        "password",
        "a" * 64,
        "abcabcabcabcabcabcabc",
        "123456789012345",
        "1234567890123456",
        "abcdefghijklmnop",
        "livechatlivechat",
    ],
)
def test_a_guessable_secret_is_fit_for_loopback_only(secret: str) -> None:
    Config(secret=secret).check()
    with pytest.raises(ConfigError, match=r"^secret: ") as caught:
        check_secret(secret)
    assert_fit_for_a_terminal(caught)


def test_the_reason_for_refusing_a_secret_does_not_show_it() -> None:
    with pytest.raises(ConfigError) as caught:
        check_secret("hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_good_secret_is_fit_for_a_network() -> None:
    check_secret("correct horse battery staple")
    check_secret("9f86d081884c7d65")


def test_a_configured_secret_is_used_and_no_file_is_made(tmp_path: Path) -> None:
    config = Config(secret="configured", data_dir=tmp_path)
    assert obtain_secret(config) == "configured"
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_made_once_readable_by_its_owner_only_and_kept(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    before = os.umask(0)
    try:
        secret = obtain_secret(config)
    finally:
        os.umask(before)
    assert stat.S_IMODE(secret_path(config).stat().st_mode) == 0o600
    assert len(secret) >= 32
    assert obtain_secret(config) == secret
    check_secret(secret)


def test_secrets_of_two_servers_differ(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert obtain_secret(Config(data_dir=tmp_path / "a")) != obtain_secret(Config(data_dir=tmp_path / "b"))


def test_a_kept_secret_may_have_been_written_by_hand(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    secret_path(config).write_text("  by hand \n\n")
    secret_path(config).chmod(0o400)
    assert obtain_secret(config) == "by hand"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_kept_secret_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    config = Config(data_dir=tmp_path)
    secret_path(config).write_text("secret of ours")
    secret_path(config).chmod(mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}\); expected 0600$") as caught:
        obtain_secret(config)
    assert "secret of ours" not in str(caught.value)
    assert_fit_for_a_terminal(caught)


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_kept_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    config = Config(data_dir=tmp_path)
    secret_path(config).write_bytes(content)
    secret_path(config).chmod(0o600)
    with pytest.raises(ConfigError, match=r"is empty") as caught:
        obtain_secret(config)
    assert_fit_for_a_terminal(caught)


def test_a_kept_secret_that_is_no_text_is_refused(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    secret_path(config).write_bytes(b"\xff\xfe\x00")
    secret_path(config).chmod(0o600)
    with pytest.raises(ConfigError, match=r"^cannot read ") as caught:
        obtain_secret(config)
    assert_fit_for_a_terminal(caught)


def test_a_missing_folder_is_made_for_the_secret_and_its_owner_only(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "made" / "here")
    assert obtain_secret(config) == obtain_secret(config)
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700


def test_where_no_secret_can_be_kept_the_reason_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^cannot write .*: not a directory") as caught:
        obtain_secret(Config(data_dir=tmp_path / "file" / "below"))
    assert_fit_for_a_terminal(caught)
    secret_path(Config(data_dir=tmp_path)).mkdir()
    with pytest.raises(ConfigError, match=r"^cannot read ") as caught:
        obtain_secret(Config(data_dir=tmp_path))
    assert_fit_for_a_terminal(caught)


def test_the_secret_may_be_in_a_file_that_is_given_and_never_made(tmp_path: Path) -> None:
    file = tmp_path / "credential"
    config = Config(data_dir=tmp_path / "data", secret_file=file)
    with pytest.raises(ConfigError, match="cannot read") as caught:
        obtain_secret(config)
    assert_fit_for_a_terminal(caught)
    file.write_text("given\n")
    for mode in (0o400, 0o440, 0o640):
        file.chmod(mode)
        assert obtain_secret(config) == read_secret(config) == "given"
    for mode in (0o644, 0o660, 0o604):
        file.chmod(mode)
        with pytest.raises(ConfigError, match="can be read by others"):
            obtain_secret(config)
    assert not (tmp_path / "data").exists()
