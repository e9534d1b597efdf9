"""A program that sends messages to the store in `argv[1]` and prints each acknowledgement, until it is killed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

from livechat.store.base import Outcome
from livechat.store.rows import Stored
from livechat.store.sqlite import open_sqlite_store
from tests.support.store import create, in_one_go, join, message

SENDERS = 50


async def main(data_dir: Path) -> None:
    async with open_sqlite_store(data_dir) as store:
        await in_one_go(store, [create(), join("ann")])

        def send(nonce: str) -> None:
            store.submit(message("ann", nonce, nonce=nonce), partial(acknowledge, nonce))

        def acknowledge(nonce: str, outcome: Outcome[Stored]) -> None:
            print(f"{nonce} {outcome.unwrap().seq}\n", end="", flush=True)
            sender, _, count = nonce.partition("-")
            send(f"{sender}-{int(count) + 1}")

        for sender in range(SENDERS):
            send(f"{sender}-0")
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
