"""What tests of accounts are run over: every store."""

from __future__ import annotations

from tests.store.conftest import open_store as open_store
