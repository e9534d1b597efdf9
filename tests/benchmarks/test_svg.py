"""The plot is well-formed, says what it is given, and is to scale."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.support.svg import COLORS, PLOT_HEIGHT, Bar, Group, Panel, axis_top, draw

SVG = "{http://www.w3.org/2000/svg}"


def parsed(panels: list[Panel], series: list[str]) -> ElementTree.Element:
    return ElementTree.fromstring(draw("A <title> & more", series, panels, ["a caption"]))


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_bars_are_to_scale_and_labelled() -> None:
    group = Group("fan-out 2", [Bar(50.0, ["50k"]), Bar(25.0, ["25k", "x 2.0"])])
    root = parsed([Panel("a panel", "thousands", [group])], ["one", "two"])
    heights = [
        float(element.attrib["height"])
        for element in root.iter(f"{SVG}rect")
        if element.attrib["fill"] in COLORS and element.attrib["height"] != "12"
    ]
    assert heights == [PLOT_HEIGHT, PLOT_HEIGHT / 2]
    found = texts(root)
    for text in ("A <title> & more", "one", "two", "a panel", "thousands", "fan-out 2", "50k", "25k", "x 2.0"):
        assert text in found
    assert "a caption" in found
    assert root.find(f"{SVG}title") is not None


def test_what_was_not_measured_has_no_bar_and_says_so() -> None:
    root = parsed([Panel("p", "u", [Group("g", [Bar(None), Bar(1.0)])])], ["one", "two"])
    assert "n/a" in texts(root)


def test_everything_lies_within_the_picture() -> None:
    groups = [Group(f"g{n}", [Bar(float(n), [f"{n}"]) for _ in range(4)]) for n in range(4)]
    root = parsed([Panel("p", "u", groups), Panel("q", "u", groups[:1])], ["a", "b", "c", "d"])
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter(f"{SVG}text"):
        assert 0 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height


@pytest.mark.parametrize(
    ("highest", "top"), [(0.0, 5.0), (1.0, 1.0), (5.0, 5.0), (5.1, 10.0), (347.0, 500.0), (0.03, 0.05)]
)
def test_the_axis_ends_at_a_round_number(highest: float, top: float) -> None:
    assert axis_top(highest) == pytest.approx(top)
