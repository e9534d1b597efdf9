from __future__ import annotations

import stat
from pathlib import Path

import pytest

from livechat.error import ConfigError
from livechat.tokens.private_file import read_private, replace_private


def test_a_file_is_replaced_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key.sdp"
    path.write_text("old")
    path.chmod(0o644)
    replace_private(path, "new\r\n")
    assert path.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_private(path) == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_who_has_the_old_file_open_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "key.sdp"
    replace_private(path, "old")
    with path.open() as file:
        replace_private(path, "new")
        assert file.read() == "old"


@pytest.mark.parametrize("name", ["no/such/folder", "folder"])
def test_what_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=f"cannot write .*{name}: "):
        replace_private(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
