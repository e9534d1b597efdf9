from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from livechat.cli.display import Column, clock, count, facts, print_facts, print_table, size, span
from livechat.cli.trace import line

COLUMNS = (Column("NAME", 9), Column("NUMBER", 5, right=True), Column("REMARK", 1))
ROWS: list[list[object]] = [["alice", 5, "here"], ["b" * 30, None, "\x1b[2Jgone [red]away[/red]"]]


def shown(width: int, *, is_terminal: bool) -> list[str]:
    console = Console(file=StringIO(), width=width, force_terminal=is_terminal, color_system=None, markup=False)
    print_table(console, COLUMNS, ROWS, "nothing")
    assert isinstance(console.file, StringIO)
    return [text.rstrip() for text in console.file.getvalue().splitlines()]


def test_in_a_pipe_every_column_is_whole() -> None:
    assert shown(20, is_terminal=False) == [
        f"NAME{' ' * 28}NUMBER  REMARK",
        f"alice{' ' * 32}5  here",
        f"{'b' * 30}       -  �[2Jgone [red]away[/red]",
    ]


def test_on_a_narrow_terminal_the_least_columns_go_first() -> None:
    assert shown(26, is_terminal=True)[0].split() == ["NAME", "NUMBER"]
    assert shown(16, is_terminal=True)[0].split() == ["NAME"]
    assert shown(3, is_terminal=True)[0].split() == ["NA…"]
    assert shown(80, is_terminal=True)[0].split() == ["NAME", "NUMBER", "REMARK"]


@pytest.mark.parametrize("width", [3, 10, 16, 26, 33, 40, 80])
def test_on_a_terminal_no_line_is_longer_than_it_is_wide(width: int) -> None:
    lines = shown(width, is_terminal=True)
    assert len(lines) == 3
    assert max(map(len, lines)) <= width
    assert not [text for text in lines if "\x1b" in text]


def test_where_there_is_nothing_it_says_so() -> None:
    console = Console(file=StringIO(), width=80)
    print_table(console, COLUMNS, [], "nothing")
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == "nothing\n"


def test_facts_are_plain_lines_in_a_pipe_and_go_on_below_themselves_on_a_terminal() -> None:
    pairs = [("name", "a value of many words"), ("other", "1")]
    console = Console(file=StringIO(), width=20)
    print_facts(console, pairs)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == "name   a value of many words\nother  1\n"
    narrow = Console(file=StringIO(), width=20, force_terminal=True, color_system=None)
    narrow.print(facts(pairs))
    assert isinstance(narrow.file, StringIO)
    lines = [text.rstrip() for text in narrow.file.getvalue().splitlines()]
    assert lines == ["name   a value of", "       many words", "other  1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3600, "1h 0m"),
        (90_061, "1d 1h"),
        (8_640_000, "100d 0h"),
    ],
)
def test_a_time_span_has_its_two_greatest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (123_456, "123 kB"),
        (1e9, "1.0 GB"),
        (1e18, "1000000 TB"),
    ],
)
def test_bytes_have_the_unit_that_suits_them(number: float, text: str) -> None:
    assert size(number) == text


def test_a_number_of_things_is_said_as_one_says_it() -> None:
    said = [count(0, "user"), count(1, "user"), count(1234, "user"), count(2, "entry", "entries")]
    assert said == ["0 users", "1 user", "1,234 users", "2 entries"]


def test_a_time_of_day_has_milliseconds() -> None:
    assert clock(1_700_000_000_007).endswith(".007")


WHO = {"user_id": "alice", "session": "sess_01234567", "peer": "192.0.2.1"}
WHAT = {"direction": "out", "name": "ACK", "op": 200, "answers": "MESSAGE_CREATE", "size": 2048}
PACKET = {"time": 1_700_000_000_000, "channel_id": "lobby", "seq": 7, **WHO, **WHAT}


def test_a_packet_is_a_line_with_less_on_a_narrow_terminal() -> None:
    wide = line(PACKET, None).plain.split()[1:]
    assert wide == ["out", "ACK", "lobby", "#7", "alice", "to", "MESSAGE_CREATE", "sess_01234567", "2.0", "kB"]
    assert line(PACKET, 80).plain.split()[1:] == wide[:-3]


def test_a_packet_of_nobody_yet_shows_the_address() -> None:
    packet = {"time": 1, "direction": "in", "name": "UNKNOWN", "op": 99, "peer": "192.0.2.1", "size": 5}
    assert line(packet, None).plain.split()[1:] == ["in", "op", "99", "192.0.2.1", "5", "B"]


def test_an_error_shows_its_code_and_no_line_holds_what_a_terminal_obeys() -> None:
    packet = {**PACKET, "name": "ERROR", "code": 1004, "user_id": "\x1b[2Jx"}
    assert line(packet, None).plain.split()[1:4] == ["out", "ERROR", "1004"]
    assert "\x1b" not in line(packet, None).plain
