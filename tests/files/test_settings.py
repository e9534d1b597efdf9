"""The settings of files: what cannot work is refused by its name."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from livechat.config import Config, load_config
from livechat.error import ConfigError
from livechat.files.settings import FileSettings
from livechat.files.types import check_type


def test_the_defaults_work_and_take_what_people_send() -> None:
    Config().check()
    for mime in ("image/png", "image/avif", "audio/ogg", "video/mp4", "text/plain", "application/pdf"):
        check_type(mime, FileSettings().types)


@pytest.mark.parametrize(
    "pattern", ["", "image", "image/", "*", "*/png", "image/png; x", "im age/png", "image/**"]
)
def test_what_is_no_media_type_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"files\.types: expected media types"):
        Config(files=FileSettings(types=("image/png", pattern))).check()


NUMBERS = [field.name for field in attrs.fields(FileSettings) if type(field.default) is int]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_below_one_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"files\.{name}: expected at least 1"):
        Config(files=FileSettings(**{name: 0})).check()  # type: ignore[arg-type]


def test_they_are_read_from_file_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "livechat.toml"
    file.write_text('[livechat.files]\nfile_bytes = 5\ntypes = ["image/*"]\nforeign_attachments = false\n')
    monkeypatch.setenv("LIVECHAT_FILES_FILE_BYTES", "6")
    assert load_config(file).files == FileSettings(file_bytes=6, types=("image/*",), foreign_attachments=False)
    monkeypatch.setenv("LIVECHAT_FILES_TYPES", "audio/*, video/*")
    assert load_config(file).files.types == ("audio/*", "video/*")
