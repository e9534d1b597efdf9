"""What an operator asks a server, over raw HTTP, and how its answers read."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

import livechat
from tests.support.http import Response, exchange, split_responses

Labels = dict[str, str]


async def get(server: livechat.Server, path: str, **headers: str) -> Response:
    """Return what GET answers; a header's name is written with underscores."""
    lines = {"host": "127.0.0.1", "connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    raw = await exchange(server.addresses.tcp[0], f"GET {path} HTTP/1.1\r\n{head}\r\n".encode(), eof=False)
    (response,) = split_responses(raw)
    return response


class Numbers:
    """What `/metrics` said."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """Return the value of one sample, which must be there."""
        return self._values[(name, *sorted(labels.items()))]

    def labels_of(self, name: str, label: str) -> set[str]:
        """Return the values that a label has in a family's samples."""
        return {sample.labels[label] for sample in self.families[name].samples}


async def scrape(server: livechat.Server) -> Numbers:
    """Return what `/metrics` says to a program on the server's machine."""
    response = await get(server, "/metrics")
    assert response.status == 200, response
    return Numbers(response.body.decode())
