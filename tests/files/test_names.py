"""File names from clients: no folder, nothing that deceives, never too long."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.files.names import FILE_ID, clean_name, file_url, new_file_id
from livechat.protocol.types import is_text


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\win.ini", "win.ini"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("/", "file"),
        ("..", "file"),
        ("", "file"),
        (" . ", "file"),
        ("a\x00b\r\n.txt", "ab.txt"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("zero\u200bwidth\ufeff.txt", "zerowidth.txt"),
        ("half\ud800.txt", "half.txt"),
        (".htaccess", "htaccess"),
        ("name. ", "name"),
        ("a   b\t c.txt", "a b c.txt"),
        ("me\u0301.txt", "m\u00e9.txt"),
        ("사진.png", "사진.png"),
        ("می\u200cخواهم.txt", "می\u200cخواهم.txt"),
        ("\U0001f468\u200d\U0001f469.png", "\U0001f468\u200d\U0001f469.png"),
    ],
)
def test_a_name_is_cleaned(raw: str, name: str) -> None:
    assert clean_name(raw) == name


def test_a_long_name_keeps_its_extension() -> None:
    assert clean_name("x" * 300 + ".png") == "x" * 251 + ".png"
    assert clean_name("한" * 300 + ".png") == "한" * 83 + ".png"
    assert clean_name("x" * 300) == "x" * 255
    assert len(clean_name("a." + "x" * 300)) == 255


@given(st.text())
def test_every_name_can_be_shown_and_saved(raw: str) -> None:
    name = clean_name(raw)
    assert 1 <= len(name.encode()) <= 255
    assert is_text(name)
    assert not set(name) & set("/\\")
    assert not {category(char) for char in name} & {"Cc", "Cs"}
    assert name == name.strip(". ")
    assert clean_name(name) == name


def test_ids_are_what_they_look_like_and_differ() -> None:
    ids = {new_file_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(FILE_ID.fullmatch(file_id) for file_id in ids)
    file_id = new_file_id()
    assert file_url(file_id) == f"/api/v1/files/{file_id}"
