"""Passwords are hashed by argon2id, a bounded number at a time."""

from __future__ import annotations

import threading

import argon2
import attrs
import pytest
import trio

from livechat.accounts import hashing
from livechat.accounts.hashing import Hasher
from livechat.accounts.settings import AccountSettings
from livechat.error import Overloaded
from tests.support.accounts import QUICK
from tests.support.server import DEADLINE_S


async def test_a_hash_says_how_it_was_made_and_knows_its_password() -> None:
    hasher = Hasher(AccountSettings())
    kept = await hasher.hash(b"correct horse")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.hash(b"correct horse") != kept
    assert await hasher.verify(b"correct horse", kept)
    assert not await hasher.verify(b"correct horsf", kept)


@pytest.mark.parametrize("kept", [None, "", "nonsense", "$argon2id$v=19$m=8,t=1,p=1$AAAA"])
async def test_without_a_usable_hash_no_password_is_right(kept: str | None) -> None:
    hasher = Hasher(QUICK)
    assert not await hasher.verify(b"correct horse", kept)
    await hasher.prepare()
    assert not await hasher.verify(b"correct horse", kept)


async def test_a_hash_is_outdated_only_by_stronger_parameters() -> None:
    middle = attrs.evolve(QUICK, argon2_memory_kib=16, argon2_passes=2)
    kept = await Hasher(middle).hash(b"correct horse")
    assert not Hasher(middle).is_outdated(kept)
    assert not Hasher(QUICK).is_outdated(kept)
    for stronger in ({"argon2_memory_kib": 32}, {"argon2_passes": 3}, {"argon2_lanes": 2}):
        assert Hasher(attrs.evolve(middle, **stronger)).is_outdated(kept)  # type: ignore[arg-type]


class Slow:
    """Holds up hashing until it is told to let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.running = 0
        self.most = 0
        monkeypatch.setattr(argon2.PasswordHasher, "hash", self._hash)

    def _hash(self, _password: bytes) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.go_on.wait(DEADLINE_S)
        self.running -= 1
        return "hash"


async def test_over_the_queue_it_is_overloaded_and_within_it_everybody_gets_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Slow(monkeypatch)
    hasher = Hasher(attrs.evolve(QUICK, hash_threads=2, hash_queue=3))
    made: list[str] = []

    async def hash_one() -> None:
        made.append(await hasher.hash(b"x"))

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(hash_one)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Overloaded) as refused:
                await hasher.hash(b"x")
            assert refused.value.retry_after_ms == 1000
            slow.go_on.set()
    assert made == ["hash"] * 5
    assert slow.most <= 2
    assert await hasher.hash(b"x") == "hash"


async def test_who_goes_away_while_waiting_leaves_his_place(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    hasher = Hasher(attrs.evolve(QUICK, hash_threads=1, hash_queue=1))
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hasher.hash, b"x")
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(5):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await hasher.hash(b"x")
                assert scope.cancelled_caught
            slow.go_on.set()


async def test_who_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    monkeypatch.setattr(hashing, "TIMEOUT_S", 0.0)
    hasher = Hasher(attrs.evolve(QUICK, hash_threads=1))
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def occupy() -> None:
                # In its turn already, so it ends as it may.
                monkeypatch.setattr(hashing, "TIMEOUT_S", DEADLINE_S)
                await hasher.hash(b"x")

            nursery.start_soon(occupy)
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(hashing, "TIMEOUT_S", 0.0)
            with pytest.raises(Overloaded):
                await hasher.hash(b"x")
            slow.go_on.set()
