"""Owns how groups of bars become a picture: SVG by hand, no library. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import attrs

BAR: Final = 46
"""Width of a bar, in pixels, like all lengths here."""
GAP: Final = 34
"""Between two groups."""
PLOT_HEIGHT: Final = 220
LEFT: Final = 76
RIGHT: Final = 24
TITLE: Final = 64
"""Room above a panel's plot, for its title and the labels on its highest bars."""
FOOT: Final = 36
LEGEND: Final = 40
CAPTION: Final = 22
TICKS: Final = 5
COLORS: Final = (
    *("#1b6ca8", "#e07b39", "#6aa84f", "#8e63a5", "#c94c4c", "#7f7f7f", "#17a2a2", "#b8a12f", "#d17ba8"),
)
"""Told apart in grey too, as each bar bears its figure."""
FONT: Final = "font-family='system-ui, sans-serif'"


@attrs.frozen
class Bar:
    """One bar: a value and what is written on it."""

    value: float | None
    """None: nothing was measured; no bar is drawn."""
    labels: Sequence[str] = ()
    """Lines above the bar."""


@attrs.frozen
class Group:
    """The bars of one place on the axis, one a series, in the series' order."""

    name: str
    bars: Sequence[Bar]


@attrs.frozen
class Panel:
    """One plot with an axis of its own."""

    title: str
    unit: str
    groups: Sequence[Group]


def draw(title: str, series: Sequence[str], panels: Sequence[Panel], captions: Sequence[str] = ()) -> str:
    """Return an SVG document: the panels below each other, a legend above, captions below.

    Args:
        series: the bars' names, for the legend; also the order in each group.
        captions: lines of text at the end.
    """
    groups_max = max(len(panel.groups) for panel in panels)
    plot_width = groups_max * (len(series) * BAR + GAP) + GAP
    panel_height = TITLE + PLOT_HEIGHT + FOOT
    width = LEFT + plot_width + RIGHT
    height = LEGEND * 2 + len(panels) * panel_height + CAPTION * (len(captions) + 1)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' "
        f"viewBox='0 0 {width} {height}' role='img'>",
        f"<title>{escape(title)}</title>",
        "<rect width='100%' height='100%' fill='#ffffff'/>",
        _text(LEFT, 26, title, size=16, weight="bold"),
        *_legend(series),
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, LEGEND * 2 + number * panel_height, plot_width)
    below = LEGEND * 2 + len(panels) * panel_height
    parts += [_text(LEFT, below + CAPTION * (i + 1) - 6, line, size=11) for i, line in enumerate(captions)]
    return "\n".join([*parts, "</svg>", ""])


def axis_top(highest: float) -> float:
    """Return a round number not below the highest value, in as many equal steps as there are ticks."""
    if highest <= 0:
        return float(TICKS)
    step = highest / TICKS
    magnitude = 10.0 ** math.floor(math.log10(step))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if step <= factor * magnitude * (1 + 1e-9))
    return factor * magnitude * TICKS


def _legend(series: Sequence[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for number, name in enumerate(series):
        parts.append(f"<rect x='{x:.1f}' y='{LEGEND + 4}' width='12' height='12' fill='{_color(number)}'/>")
        parts.append(_text(x + 18, LEGEND + 14, name, size=12))
        x += 40 + 7.2 * len(name)
    return parts


def _panel(panel: Panel, top: float, plot_width: float) -> list[str]:
    bottom = top + TITLE + PLOT_HEIGHT
    values = [bar.value for group in panel.groups for bar in group.bars if bar.value is not None]
    highest = axis_top(max(values, default=0.0))
    parts = [_text(LEFT, top + 22, panel.title, size=13, weight="bold")]
    parts.append(_text(LEFT - 64, top + TITLE - 18, panel.unit, size=11))
    for tick in range(TICKS + 1):
        y = bottom - PLOT_HEIGHT * tick / TICKS
        parts.append(f"<line x1='{LEFT}' y1='{y:.1f}' x2='{LEFT + plot_width}' y2='{y:.1f}' stroke='#dddddd'/>")
        parts.append(_text(LEFT - 8, y + 4, f"{highest * tick / TICKS:g}", size=11, anchor="end"))
    x = float(LEFT + GAP)
    for group in panel.groups:
        middle = x + len(group.bars) * BAR / 2
        for number, bar in enumerate(group.bars):
            parts += _bar(bar, number, x + number * BAR, bottom, highest)
        parts.append(_text(middle, bottom + 20, group.name, size=12, anchor="middle"))
        x += len(group.bars) * BAR + GAP
    return parts


def _bar(bar: Bar, number: int, x: float, bottom: float, highest: float) -> list[str]:
    middle = x + BAR / 2
    if bar.value is None:
        return [_text(middle, bottom - 4, "n/a", size=10, anchor="middle")]
    height = PLOT_HEIGHT * bar.value / highest
    y = bottom - height
    parts = [
        f"<rect x='{x + 2:.1f}' y='{y:.1f}' width='{BAR - 4}' height='{height:.1f}' fill='{_color(number)}'/>"
    ]
    for line, text in enumerate(reversed(bar.labels)):
        parts.append(_text(middle, y - 4 - 12 * line, text, size=10, anchor="middle"))
    return parts


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _text(x: float, y: float, text: str, *, size: int, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' "
        f"fill='#222222' {FONT}>{escape(text)}</text>"
    )
