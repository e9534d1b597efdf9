"""What every store is tested with; a new implementation joins the suite by one more parameter here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from livechat.store.sqlite import open_sqlite_store
from tests.support.store import OpenStore


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    assert request.param == "sqlite"
    return partial(open_sqlite_store, tmp_path / "data")
