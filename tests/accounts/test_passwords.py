"""What a password may be, and when two passwords or two user ids are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.accounts.passwords import BYTES_MAX, check_new_id, prepare, prepare_new, same_as
from livechat.error import ProtocolError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("correct horse", "correct\u00a0horse"),
        ("correct horse", "correct\u3000horse"),
        ("pa\u0301ssword", "p\u00e1ssword"),
        ("ｐａｓｓｗｏｒｄ", "password"),
        ("\u1112\u1161\u11ab password", "한 password"),
    ],
)
def test_what_keyboards_write_differently_is_the_same_password(one: str, other: str) -> None:
    assert prepare(one) == prepare(other)


@pytest.mark.parametrize(("one", "other"), [("Password", "password"), ("pass word", "password"), ("a  b", "a b")])
def test_case_and_spaces_count(one: str, other: str) -> None:
    assert prepare(one) != prepare(other)


@pytest.mark.parametrize(
    "password", ["", "x" * 1025, "pass\0word", "pass\nword", "pass\x7fword", "pass\x85word", "half \ud800 word"]
)
def test_what_can_be_no_password_is_refused_without_being_repeated(password: str) -> None:
    with pytest.raises(ProtocolError, match=r"^password: expected") as refused:
        prepare(password)
    assert not password or password not in refused.value.reason


def test_what_becomes_too_long_by_its_compatibility_form_is_refused() -> None:
    assert len(prepare("\ufdfa" * 200)) <= BYTES_MAX
    with pytest.raises(ProtocolError, match=r"^password: expected at most 8192 bytes"):
        prepare("\ufdfa" * 1024)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=1024))
def test_preparing_twice_changes_nothing_more_and_is_bounded(password: str) -> None:
    try:
        prepared = prepare(password)
    except ProtocolError:
        return
    assert len(prepared) <= BYTES_MAX
    assert len(prepared.decode()) > 1024 or prepare(prepared.decode()) == prepared


@pytest.mark.parametrize("password", ["1234567", "ǆǆǆ", "한한한한한한한"])
def test_a_short_password_is_not_taken(password: str) -> None:
    prepare(password)
    with pytest.raises(ProtocolError, match="password: expected 8 to 1024 characters"):
        prepare_new(password, "ann")


def test_eight_characters_of_any_script_will_do() -> None:
    assert prepare_new("한한한한한한한한", "ann")


@pytest.mark.parametrize("password", ["annabelle", "ANNABELLE", "ａｎｎａｂｅｌｌｅ"])
def test_the_user_id_is_no_password(password: str) -> None:
    with pytest.raises(ProtocolError, match="password: expected another text than the user id"):
        prepare_new(password, "Annabelle")


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann", "ANN"), ("straße", "STRASSE"), ("ａｎｎ", "ann"), ("Σίσυφος", "ΣΊΣΥΦΟΣ"), ("ﬁx", "FIX")],
)
def test_ids_that_look_the_same_count_as_one(one: str, other: str) -> None:
    assert same_as(one) == same_as(other)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=64))
def test_folding_twice_changes_nothing_more(user_id: str) -> None:
    assert same_as(same_as(user_id)) == same_as(user_id)


@pytest.mark.parametrize("user_id", ["", "a b", "a" * 65, "a/b", "a\n", "\ufdfa" * 64])
def test_a_wrong_user_id_is_refused(user_id: str) -> None:
    with pytest.raises(ProtocolError, match=r"^user_id: expected"):
        check_new_id(user_id)
