from __future__ import annotations

from typing import Any

import pytest

from livechat.config import Config
from livechat.gateway.settings import GatewaySettings
from livechat.hub.settings import ChunkSettings


def small(**gateway: int) -> Config:
    sizes: dict[str, Any] = {"message_bytes": 100, "frame_bytes": 100, "egress_bytes": 100}
    sizes |= {"chunk_bytes": 4106, "egress_total_bytes": 4206}
    return Config(gateway=GatewaySettings(**{**sizes, **gateway}), chunks=ChunkSettings(data_bytes=10))


def test_bounds_may_be_as_tight_as_they_make_sense() -> None:
    assert Config().doubts() == []
    assert small().doubts() == []
    assert small(egress_total_bytes=0).doubts() == []
    assert Config(chunks=ChunkSettings(kept_bytes=10, init_bytes=10)).doubts() == []


@pytest.mark.parametrize(
    ("config", "doubt"),
    [
        (
            small(frame_bytes=99),
            "gateway.frame_bytes: 99 is less than gateway.message_bytes, 100: what needs more is closed with 1009",
        ),
        (
            small(egress_bytes=99),
            "gateway.egress_bytes: 99 is less than gateway.message_bytes, 100:"
            " what needs more is closed with 4001",
        ),
        (
            small(chunk_bytes=4105),
            "gateway.chunk_bytes: 4105 is less than chunks.data_bytes and their heads, 4106:"
            " what needs more is dropped",
        ),
        (
            small(egress_total_bytes=4205),
            "gateway.egress_total_bytes: 4205 is less than gateway.egress_bytes and chunk_bytes together, 4206:"
            " what needs more is closed with 4001",
        ),
        (
            Config(chunks=ChunkSettings(kept_bytes=9, init_bytes=10)),
            "chunks.kept_bytes: 9 is less than chunks.init_bytes, 10",
        ),
    ],
)
def test_a_bound_that_makes_another_pointless_is_told_and_not_refused(config: Config, doubt: str) -> None:
    config.check()
    assert config.doubts() == [doubt]
