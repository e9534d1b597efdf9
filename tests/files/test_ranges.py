"""Ranges and conditions: RFC 9110's examples, and any range against slices of the bytes themselves."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livechat.files.ranges import Selection, Verdict, select_untrusted

TAG = '"5eb63bbbe01eeed0"'
WHOLE = Selection(Verdict.WHOLE, 0, 10_000)


def ranged(specifier: str, size: int = 10_000, headers: dict[str, str] | None = None) -> Selection:
    return select_untrusted({"range": specifier, **(headers or {})}, TAG, size)


@pytest.mark.parametrize(
    ("specifier", "start", "stop"),
    [
        ("bytes=0-499", 0, 500),
        ("bytes=500-999", 500, 1000),
        ("bytes=-500", 9500, 10_000),
        ("bytes=9500-", 9500, 10_000),
        ("bytes=0-0", 0, 1),
        ("bytes=-1", 9999, 10_000),
        ("bytes=0-", 0, 10_000),
        ("bytes=9999-10000", 9999, 10_000),
        ("bytes=0-99999999999999999999999999", 0, 10_000),
        ("bytes=-99999999999999999999999999", 0, 10_000),
        ("bytes=0000000000000000000000000000005-7", 5, 8),
        ("BYTES = 1 - 2 ", 1, 3),
    ],
)
def test_a_range_that_is_there_is_given(specifier: str, start: int, stop: int) -> None:
    assert ranged(specifier) == Selection(Verdict.PART, start, stop)


@pytest.mark.parametrize("specifier", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=" + "9" * 30 + "-"])
def test_a_range_behind_the_end_is_not_satisfiable(specifier: str) -> None:
    assert ranged(specifier).verdict is Verdict.NOT_SATISFIABLE


@pytest.mark.parametrize(
    "specifier",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=1-2-3", "bytes=--1", "bytes=+1-2"),
        *("items=0-1", "bytes=0-1,5-6", "bytes=0-1,", "bytes=\u0661-\u0662", "bytes 0-1"),
        f"bytes={'9' * 31}-{'9' * 30}",
        f"bytes={'9' * 5000}-{'8' * 5000}",
    ],
)
def test_what_is_no_single_range_is_ignored(specifier: str) -> None:
    assert ranged(specifier) == WHOLE


@pytest.mark.parametrize("specifier", ["bytes=-5", "bytes=-1"])
def test_the_last_bytes_of_an_empty_file_are_the_whole_of_it(specifier: str) -> None:
    assert ranged(specifier, size=0) == Selection(Verdict.WHOLE, 0, 0)
    assert ranged("bytes=0-", size=0).verdict is Verdict.NOT_SATISFIABLE


def test_a_range_means_nothing_to_head() -> None:
    assert select_untrusted({"range": "bytes=0-1"}, TAG, 10_000, is_get=False) == WHOLE


@pytest.mark.parametrize(
    ("if_range", "verdict"),
    [
        (TAG, Verdict.PART),
        (f" {TAG} ", Verdict.PART),
        (f"W/{TAG}", Verdict.WHOLE),
        ('"another"', Verdict.WHOLE),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Verdict.WHOLE),
        ("*", Verdict.WHOLE),
    ],
)
def test_if_range_gives_the_part_only_of_the_same_file(if_range: str, verdict: Verdict) -> None:
    assert ranged("bytes=0-1", headers={"if-range": if_range}).verdict is verdict


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("if-none-match", TAG, Verdict.NOT_MODIFIED),
        ("if-none-match", f"W/{TAG}", Verdict.NOT_MODIFIED),
        ("if-none-match", f'"x", W/"y" ,{TAG}', Verdict.NOT_MODIFIED),
        ("if-none-match", "*", Verdict.NOT_MODIFIED),
        ("if-none-match", '"x"', Verdict.PART),
        ("if-none-match", TAG.strip('"'), Verdict.PART),
        ("if-match", TAG, Verdict.PART),
        ("if-match", f'"x", {TAG}', Verdict.PART),
        ("if-match", "*", Verdict.PART),
        ("if-match", f"W/{TAG}", Verdict.PRECONDITION_FAILED),
        ("if-match", '"x"', Verdict.PRECONDITION_FAILED),
        ("if-match", "", Verdict.PRECONDITION_FAILED),
    ],
)
def test_conditions_come_before_the_range(name: str, value: str, verdict: Verdict) -> None:
    assert ranged("bytes=0-1", headers={name: value}).verdict is verdict


def test_if_match_comes_before_if_none_match() -> None:
    headers = {"if-match": '"x"', "if-none-match": TAG}
    assert select_untrusted(headers, TAG, 1).verdict is Verdict.PRECONDITION_FAILED


SPECIFIER = st.one_of(
    st.builds("bytes={}-{}".format, st.integers(0, 30), st.integers(0, 30)),
    st.builds("bytes={}-".format, st.integers(0, 30)),
    st.builds("bytes=-{}".format, st.integers(0, 30)),
)


@given(SPECIFIER, st.integers(0, 20))
@example("bytes=-0", 0)
def test_every_range_is_the_slice_that_its_numbers_say(specifier: str, size: int) -> None:
    data = bytes(range(size))
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", specifier)
    assert match is not None
    first, last = match.groups()
    got = ranged(specifier, size)
    expected = data[-int(last) :] if not first and int(last) else data[int(first or size) : int(last or size) + 1]
    if got.verdict is Verdict.PART:
        assert data[got.start : got.stop] == expected != b""
    elif got.verdict is Verdict.NOT_SATISFIABLE:
        assert expected == b""
    else:
        assert got == Selection(Verdict.WHOLE, 0, size)
        assert (first and last and int(last) < int(first)) or size == 0


@given(st.dictionaries(st.sampled_from(["range", "if-range", "if-match", "if-none-match"]), st.text()))
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    got = select_untrusted(headers, TAG, 100)
    assert 0 <= got.start <= got.stop <= 100
