"""Owns the reading of a server's `/metrics`: Prometheus' text into numbers. It must not know what they mean."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

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
    host = urlsplit(url).netloc
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
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
