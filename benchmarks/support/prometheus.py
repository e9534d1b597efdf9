"""Owns the reading of a server's `/metrics`: Prometheus' text into numbers. It must not know what they mean."""

from __future__ import annotations

import http.client
import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from benchmarks.support.crowd_tls import trusting_context

TIMEOUT_S: Final = 10.0

_LINE: Final = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""By name and labels."""


def scrape(url: str, token: str) -> Samples:
    """Ask the server whose gateway is at `url`; it blocks for some milliseconds.

    Raises:
        OSError: no answer, or another than 200.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    if parts.scheme == "wss":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT_S, context=trusting_context())
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"/metrics: {response.status}")
    return parse(text)


def parse(text: str) -> Samples:
    """Parse the text format; lines of no sample are left out."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None:
            labels = frozenset(_LABEL.findall(match["labels"] or ""))
            found[match["name"], labels] = float(match["value"])
    return found


def by_label(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Return the values of a metric by one of its labels."""
    return {
        dict(labels)[label]: value
        for (sample, labels), value in samples.items()
        if sample == name and label in dict(labels)
    }


def gc_pauses(before: Samples, after: Samples) -> dict[str, float | None]:
    """Return the pauses of a server's garbage collector between two answers.

    Returns:
        count, total_ms, and longest_ms: the bound of the bucket that the longest one lies in; None: it is beyond
        the last bound.
    """
    name = "livechat_gc_pause_seconds"
    longest_s = 0.0
    found = {"count": 0.0, "sum": 0.0}
    for (sample, labels), value in after.items():
        more = value - before.get((sample, labels), 0.0)
        if sample == f"{name}_bucket" and more:
            longest_s = max(longest_s, _longest_s(before, after, dict(labels)["generation"]))
        for what in found:
            found[what] += more if sample == f"{name}_{what}" else 0.0
    return {
        "count": round(found["count"]),
        "total_ms": round(found["sum"] * 1000, 1),
        "longest_ms": None if math.isinf(longest_s) else round(longest_s * 1000, 1),
    }


def _longest_s(before: Samples, after: Samples, generation: str) -> float:
    """Return the lowest bound at or below which all the new pauses of a generation lie."""
    more = {
        float(dict(labels)["le"]): value - before.get((sample, labels), 0.0)
        for (sample, labels), value in after.items()
        if sample == "livechat_gc_pause_seconds_bucket" and dict(labels)["generation"] == generation
    }
    return min(bound for bound, count in more.items() if count == more[math.inf])
