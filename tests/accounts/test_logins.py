"""Logins over every store: tokens follow each other, and whatever ends one ends all of it."""

from __future__ import annotations

import attrs
import pytest
import sqlalchemy as sa
import trio

from livechat.accounts import records
from livechat.accounts.error import NoSuchAccount, UserIdTaken, WrongPassword
from livechat.accounts.logins import Tokens
from livechat.error import Forbidden, InvalidToken, NotPersisted, Overloaded, ProtocolError, RateLimited
from livechat.protocol.types import UserId
from livechat.store.base import perform
from livechat.store.schema import ACCOUNT, ACCOUNT_FAMILY
from livechat.store.side import Transact
from tests.support.accounts import HOST, NEW_PASSWORD, PASSWORD, QUICK, Stage, WatchedHasher, staged
from tests.support.store import OpenStore, create, join

DAY_S = 86_400


async def log_in(stage: Stage, user_id: str = "ann", password: str = PASSWORD) -> Tokens:
    return await stage.logins.log_in(user_id, password, HOST)


async def families(stage: Stage) -> int:
    """Count what is kept of logins."""
    count = sa.select(sa.func.count()).select_from(ACCOUNT_FAMILY)
    return await perform(
        stage.store, Transact(lambda tables: int(tables.execute(count).all()[0][0]), writes=False)
    )


async def assert_ended(stage: Stage, tokens: Tokens) -> None:
    with pytest.raises(InvalidToken, match="its login has ended"):
        await stage.logins.refresh(tokens.refresh_token, HOST)


async def test_a_password_becomes_tokens_of_the_account(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        await stage.logins.accounts.create("Bo", PASSWORD, display_name="Bo 안녕", scopes=["chat", "admin"])
        tokens = await log_in(stage, "bO")
        claims = stage.claims(tokens.access_token)
        assert (tokens.user_id, claims.user_id) == ("Bo", "Bo")
        assert claims.name == "Bo 안녕"
        assert claims.scopes == {"chat", "admin"}
        assert claims.family_id is not None
        assert claims.token_id is not None
        assert tokens.access_expires_at == claims.expires_at == stage.now_ms + 900_000
        assert tokens.refresh_expires_at == stage.now_ms + 30 * DAY_S * 1000
        assert stage.claims((await log_in(stage, "Bo")).access_token).family_id != claims.family_id
        assert stage.ended == []


@pytest.mark.parametrize(
    ("user_id", "password"),
    [("ann", NEW_PASSWORD), ("ann", "short"), ("ann", PASSWORD.upper()), ("ann", "with\0NUL"), ("bob", PASSWORD)],
)
async def test_whatever_is_wrong_the_refusal_is_the_same(
    open_store: OpenStore, user_id: str, password: str
) -> None:
    async with staged(open_store) as stage:
        with pytest.raises(WrongPassword) as refused:
            await log_in(stage, user_id, password)
        assert refused.value.code == 1001
        assert refused.value.reason == "user_id, password: not those of an account"
        assert await families(stage) == 0


async def test_unknown_users_cost_a_hash_like_known_ones(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        hasher = stage.logins.accounts.hasher = WatchedHasher(stage.settings)
        for user_id, password in (("ann", "wrong horse"), ("bob", "wrong horse"), ("ann", "with\0NUL")):
            with pytest.raises(WrongPassword):
                await log_in(stage, user_id, password)
        assert hasher.without_hash == [False, True, True]


async def test_a_refresh_token_is_good_once_and_the_next_takes_its_place(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        tokens = first = await log_in(stage)
        seen = {first.refresh_token}
        for _ in range(5):
            stage.wait(600)
            tokens = await stage.logins.refresh(tokens.refresh_token, HOST)
            seen.add(tokens.refresh_token)
            claims = stage.claims(tokens.access_token)
            assert claims.family_id == stage.claims(tokens.access_token).family_id
            assert claims.expires_at == stage.now_ms + 900_000
            assert tokens.refresh_expires_at == stage.now_ms + 30 * DAY_S * 1000
        assert len(seen) == 6
        assert await families(stage) == 1


async def test_a_replaced_token_ends_its_login_for_whoever_holds_it_and_no_other(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        other = await log_in(stage)
        first = await log_in(stage)
        second = await stage.logins.refresh(first.refresh_token, HOST)
        third = await stage.logins.refresh(second.refresh_token, HOST)
        with pytest.raises(InvalidToken, match="was replaced before; its login has ended") as refused:
            await stage.logins.refresh(first.refresh_token, HOST)
        assert refused.value.code == 1001
        assert stage.ended_families() == [stage.claims(third.access_token).family_id]
        assert not stage.ended[0][1]
        for tokens in (first, second, third):
            await assert_ended(stage, tokens)
        assert len(stage.ended) == 1
        await stage.logins.refresh(other.refresh_token, HOST)


async def test_of_two_at_once_one_is_answered_and_the_login_ends(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        first = await log_in(stage)
        answers: list[Tokens] = []
        refused: list[InvalidToken] = []

        async def refresh() -> None:
            try:
                answers.append(await stage.logins.refresh(first.refresh_token, HOST))
            except InvalidToken as exc:
                refused.append(exc)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresh)
            nursery.start_soon(refresh)
        assert (len(answers), len(refused)) == (1, 1)
        await assert_ended(stage, answers[0])


@pytest.mark.parametrize("text", ["", "lcr_", "x" * 68, "lcr_" + "A" * 64])
async def test_a_token_of_nobody_is_refused(open_store: OpenStore, text: str) -> None:
    async with staged(open_store) as stage:
        for act in (stage.logins.refresh, stage.logins.log_out):
            with pytest.raises(InvalidToken, match="refresh_token: not one of this server"):
                await act(text, HOST)


async def test_a_login_ends_when_it_is_not_refreshed(open_store: OpenStore) -> None:
    async with staged(open_store, refresh_lifetime_s=100) as stage:
        tokens = await log_in(stage)
        stage.wait(99)
        tokens = await stage.logins.refresh(tokens.refresh_token, HOST)
        stage.wait(100)
        await assert_ended(stage, tokens)


async def test_a_login_ends_at_its_age_and_its_access_tokens_with_it(open_store: OpenStore) -> None:
    async with staged(open_store, login_lifetime_s=1000, access_lifetime_s=900) as stage:
        tokens = await log_in(stage)
        stage.wait(500)
        tokens = await stage.logins.refresh(tokens.refresh_token, HOST)
        assert tokens.refresh_expires_at == tokens.access_expires_at == stage.now_ms + 500_000
        stage.wait(500)
        await assert_ended(stage, tokens)


async def test_logging_out_ends_one_login_or_all(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        one, two, three = [await log_in(stage) for _ in range(3)]
        await stage.logins.log_out(one.refresh_token, HOST)
        await assert_ended(stage, one)
        with pytest.raises(InvalidToken, match="its login has ended"):
            await stage.logins.log_out(one.refresh_token, HOST)
        two = await stage.logins.refresh(two.refresh_token, HOST)
        await stage.logins.log_out(two.refresh_token, HOST, everywhere=True)
        await assert_ended(stage, two)
        await assert_ended(stage, three)
        assert [is_all for _, is_all in stage.ended] == [False, True]
        assert len(stage.ended_families()) == 3


async def test_a_replaced_token_logs_out_its_own_login_only(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        other = await log_in(stage)
        first = await log_in(stage)
        second = await stage.logins.refresh(first.refresh_token, HOST)
        await stage.logins.log_out(first.refresh_token, HOST, everywhere=True)
        await assert_ended(stage, second)
        await stage.logins.refresh(other.refresh_token, HOST)


async def test_a_login_ends_by_its_id_and_only_for_its_user(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        bob = (await stage.logins.accounts.create("bob", PASSWORD)).user_id
        tokens = await log_in(stage)
        family_id = stage.claims(tokens.access_token).family_id
        assert family_id is not None
        await stage.logins.end(bob, family_id)
        tokens = await stage.logins.refresh(tokens.refresh_token, HOST)
        await stage.logins.end(tokens.user_id, family_id)
        await assert_ended(stage, tokens)
        await stage.logins.end(tokens.user_id, family_id)
        assert stage.ended_families() == [family_id]


async def test_everything_ends_for_a_user_without_logins_too(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        ann = (await log_in(stage)).user_id
        await stage.logins.end_all(ann)
        await stage.logins.end_all(ann)
        assert [is_all for _, is_all in stage.ended] == [True, True]


async def test_with_too_many_logins_the_one_refreshed_longest_ago_ends(open_store: OpenStore) -> None:
    async with staged(open_store, logins_per_user=2) as stage:
        one = await log_in(stage)
        stage.wait(1)
        two = await log_in(stage)
        stage.wait(1)
        one = await stage.logins.refresh(one.refresh_token, HOST)
        three = await log_in(stage)
        await assert_ended(stage, two)
        assert stage.ended_families() == [stage.claims(two.access_token).family_id]
        for tokens in (one, three):
            await stage.logins.refresh(tokens.refresh_token, HOST)


async def test_another_password_ends_all_logins(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        tokens = await log_in(stage)
        assert await stage.logins.accounts.set_password("ANN", NEW_PASSWORD) == "ann"
        await assert_ended(stage, tokens)
        assert [is_all for _, is_all in stage.ended] == [True]
        with pytest.raises(WrongPassword):
            await log_in(stage)
        await log_in(stage, password=NEW_PASSWORD)


async def test_the_owner_changes_the_password_by_the_old_one(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        before = await log_in(stage)
        tokens = await stage.logins.change_password("Ann", PASSWORD, NEW_PASSWORD, HOST)
        await assert_ended(stage, before)
        await stage.logins.refresh(tokens.refresh_token, HOST)
        with pytest.raises(WrongPassword):
            await stage.logins.change_password("ann", PASSWORD, "something else", HOST)
        with pytest.raises(ProtocolError, match=r"^new_password: expected 8 to 1024"):
            await stage.logins.change_password("ann", NEW_PASSWORD, "short", HOST)
        await log_in(stage, password=NEW_PASSWORD)


async def test_without_the_account_its_logins_end_and_its_name_is_free(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        tokens = await log_in(stage)
        assert await stage.logins.accounts.delete("Ann") == "ann"
        await assert_ended(stage, tokens)
        with pytest.raises(WrongPassword):
            await log_in(stage)
        assert await stage.logins.accounts.find("ann") is None
        for act in (stage.logins.accounts.delete("ann"), stage.logins.accounts.set_password("ann", NEW_PASSWORD)):
            with pytest.raises(NoSuchAccount):
                await act
        await stage.logins.register("Ann", NEW_PASSWORD, None, HOST)
        await assert_ended(stage, tokens)


async def test_a_login_whose_password_changes_while_it_is_checked_comes_to_nothing(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        accounts = stage.logins.accounts
        accounts.hasher = WatchedHasher(stage.settings, lambda: accounts.set_password("ann", NEW_PASSWORD))
        with pytest.raises(WrongPassword):
            await log_in(stage)
        assert await families(stage) == 0


@pytest.mark.parametrize("user_id", ["ann", "ANN", "ａｎｎ"])
async def test_an_id_that_looks_like_another_is_taken(open_store: OpenStore, user_id: str) -> None:
    async with staged(open_store) as stage:
        with pytest.raises(UserIdTaken):
            await stage.logins.register(user_id, PASSWORD, None, HOST)
        with pytest.raises(UserIdTaken):
            await stage.logins.accounts.create(user_id, PASSWORD)


async def test_of_two_who_want_an_id_at_once_one_gets_it(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        outcomes: list[str] = []

        async def register(user_id: str) -> None:
            try:
                outcomes.append((await stage.logins.register(user_id, PASSWORD, None, HOST)).user_id)
            except UserIdTaken:
                outcomes.append("taken")

        async with trio.open_nursery() as nursery:
            for user_id in ("bob", "BOB", "Bob"):
                nursery.start_soon(register, user_id)
        assert sorted(outcomes)[1:] == ["taken", "taken"]


async def test_what_somebody_left_in_chat_is_not_handed_to_a_stranger(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        await perform(stage.store, create("den", "eve"))
        await perform(stage.store, join("bob", "den"))
        with pytest.raises(UserIdTaken):
            await stage.logins.register("bob", PASSWORD, None, HOST)
        # The operator knows whose it is.
        await stage.logins.accounts.create("bob", PASSWORD)
        await log_in(stage, "bob")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"user_id": "a b"}, "user_id: expected"),
        ({"password": "short"}, "password: expected 8 to 1024"),
        ({"display_name": ""}, "display_name: expected 1 to 100"),
        ({"display_name": "x" * 101}, "display_name: expected 1 to 100"),
        ({"display_name": "a\0b"}, "display_name: expected 1 to 100"),
        ({"scopes": []}, "scopes: expected some of"),
        ({"scopes": ["root"]}, "scopes: expected some of"),
    ],
)
async def test_a_wrong_field_of_an_account_is_named(
    open_store: OpenStore, fields: dict[str, object], expected: str
) -> None:
    async with staged(open_store) as stage:
        given = {"user_id": "bob", "password": PASSWORD} | fields
        with pytest.raises(ProtocolError, match=f"^{expected}"):
            await stage.logins.accounts.create(**given)  # type: ignore[arg-type]
        assert [account.user_id for account in await stage.logins.accounts.list()] == ["ann"]


async def test_accounts_are_listed_page_by_page(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        for user_id in ("Zoe", "bob", "éva", "한"):
            await stage.logins.accounts.create(user_id, PASSWORD)
        listed = [account.user_id for account in await stage.logins.accounts.list()]
        assert listed == ["Zoe", "ann", "bob", "éva", "한"]
        page = await stage.logins.accounts.list("ann", 2)
        assert [account.user_id for account in page] == ["bob", "éva"]
        assert PASSWORD not in repr(page)
        assert "argon2" not in repr(page)


async def test_what_is_kept_is_a_hash_and_digests(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        tokens = await log_in(stage)
        tables = (sa.select(ACCOUNT), sa.select(ACCOUNT_FAMILY))
        kept = await perform(
            stage.store, Transact(lambda side: str([side.execute(each).all() for each in tables]), writes=False)
        )
        assert "$argon2id$" in kept
        assert PASSWORD not in kept
        assert tokens.access_token not in kept
        text = tokens.refresh_token.removeprefix("lcr_")
        assert text not in kept
        assert text[:21] not in kept
        assert text[-21:] not in kept


async def test_a_stronger_hash_takes_the_place_of_a_weaker_at_login(open_store: OpenStore) -> None:
    async with open_store() as store:
        weak = Stage(store, attrs.evolve(QUICK))
        await weak.logins.accounts.create("ann", PASSWORD)
        strong = Stage(store, attrs.evolve(QUICK, argon2_passes=2))
        first = await log_in(strong)
        account = await strong.logins.accounts.find("ann")
        assert account is not None
        assert "t=2" in account.password_hash
        await log_in(strong)
        # A weaker server leaves it.
        await log_in(weak)
        assert await strong.logins.accounts.find("ann") == account
        await strong.logins.refresh(first.refresh_token, HOST)


async def test_failures_are_limited_and_success_makes_up_for_them(open_store: OpenStore) -> None:
    async with staged(open_store, attempts_per_account=2) as stage:
        for _ in range(3):
            with pytest.raises(WrongPassword):
                await log_in(stage, password="wrong horse")
            await log_in(stage)
        for _ in range(2):
            with pytest.raises(WrongPassword):
                await log_in(stage, password="wrong horse")
        with pytest.raises(RateLimited) as refused:
            await log_in(stage)
        assert refused.value.retry_after_ms == 10_000
        stage.wait(10)
        await log_in(stage)


async def test_failed_proofs_are_limited_by_address(open_store: OpenStore) -> None:
    async with staged(open_store, attempts_per_address=2) as stage:
        tokens = await log_in(stage)
        for _ in range(3):
            tokens = await stage.logins.refresh(tokens.refresh_token, HOST)
        for _ in range(2):
            with pytest.raises(InvalidToken):
                await stage.logins.refresh("x", HOST)
        for act in (stage.logins.refresh, stage.logins.log_out):
            with pytest.raises(RateLimited):
                await act(tokens.refresh_token, HOST)
        await stage.logins.refresh(tokens.refresh_token, "198.51.100.7")


async def test_registrations_are_limited_by_address(open_store: OpenStore) -> None:
    async with staged(open_store, registrations_per_address=1) as stage:
        await stage.logins.register("bob", PASSWORD, "Bob", HOST)
        with pytest.raises(RateLimited) as refused:
            await stage.logins.register("eve", PASSWORD, None, HOST)
        assert refused.value.retry_after_ms == 600_000
        await stage.logins.register("eve", PASSWORD, None, "127.0.0.1")


async def test_what_the_server_fails_at_is_no_attempt(open_store: OpenStore) -> None:
    async with staged(open_store, attempts_per_account=2) as stage:

        async def fail() -> None:
            raise Overloaded("password: too many are being checked")

        stage.logins.accounts.hasher = WatchedHasher(stage.settings, fail)
        for _ in range(5):
            with pytest.raises(Overloaded):
                await log_in(stage)
        stage.logins.accounts.hasher = WatchedHasher(stage.settings)
        await log_in(stage)


async def test_who_was_revoked_altogether_has_no_login_left_and_begins_none(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        tokens = await log_in(stage)
        until = stage.now_ms + 60_000
        stage.revocations.revoke_user(tokens.user_id, until, until + 1_000_000)
        with pytest.raises(Forbidden, match="kept out"):
            await log_in(stage)
        await assert_ended(stage, tokens)
        stage.wait(61)
        await log_in(stage)
        await assert_ended(stage, tokens)


async def test_what_has_ended_is_removed_and_what_is_revoked_is_known_after_a_restart(
    open_store: OpenStore,
) -> None:
    async with staged(open_store, refresh_lifetime_s=2000) as stage:
        left, out = await log_in(stage), await log_in(stage)
        await stage.logins.log_out(out.refresh_token, HOST)
        claims = stage.claims(out.access_token)
        again = Stage(stage.store, stage.settings, now_ms=stage.now_ms)
        await again.logins.start()
        assert again.revocations.is_revoked(claims.user_id, claims.family_id, claims.issued_at)
        lives = stage.claims(left.access_token)
        assert not again.revocations.is_revoked(lives.user_id, lives.family_id, lives.issued_at)
        for seconds, kept in ((899, 2), (1, 1), (1099, 1), (1, 0)):
            stage.wait(seconds)
            await perform(stage.store, Transact(records.prune(stage.now_ms)))
            assert await families(stage) == kept


async def test_ended_logins_are_removed_when_the_server_runs(open_store: OpenStore) -> None:
    async with staged(open_store, refresh_lifetime_s=10) as stage:
        await log_in(stage)
        stage.wait(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.logins.run)
            while await families(stage):  # noqa: ASYNC110 - nobody is told
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()


async def test_two_transactions_for_one_id_cannot_both_be(open_store: OpenStore) -> None:
    async with staged(open_store) as stage:
        account = await stage.logins.accounts.find("ann")
        assert account is not None
        with pytest.raises(UserIdTaken):
            await perform(stage.store, Transact(records.insert(attrs.evolve(account, user_id=UserId("ANN")))))
        with pytest.raises(NotPersisted):
            await perform(stage.store, Transact(records.insert(attrs.evolve(account, same_as="another"))))
