"""A job: handed in over HTTP, answered at once, done later, and followed by its owner while it goes on.

    python examples/job.py                   a server, a kind of job, a client that follows one
    python examples/job.py --text "…"        the same with a text of your own

The host program registers a handler: an async generator of progress, parts and a result. What it yields is stored,
then pushed to all sessions of the owner, wherever they are by then.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import attrs
import structlog
import trio

import livechat

TEXT = "the quick brown fox jumps over the lazy dog and over the quick cat"
WORD_S = 0.03
"""How long the pretended work on a word takes."""
DEADLINE_S = 30.0


@attrs.frozen
class Words:
    """What a job of kind `count_words` has to know; what does not fit is refused with 422 before it is taken."""

    text: str


async def count_words(
    job: livechat.JobContext[Words],
) -> AsyncGenerator[livechat.Progress | livechat.Partial | livechat.Result]:
    """Count the words of a text. A real one would await a model, a database or another service here."""
    words = job.input.text.split()
    counted: Counter[str] = Counter()
    for number, word in enumerate(words, 1):
        await trio.sleep(WORD_S)
        counted[word] += 1
        yield livechat.Progress(number / len(words))
        if counted[word] == 1:
            yield livechat.Partial(word)
    yield livechat.Result(dict(counted))


def post_job(server_url: str, token: str, user_id: str, text: str) -> str:
    """Hand in a job as any HTTP client would; return its id. Blocks."""
    body = json.dumps({"kind": "count_words", "input": {"text": text}}).encode()
    headers = {
        "Authorization": f"Bearer {token}",
        "X-User-Id": user_id,
        "Content-Type": "application/json",
        # Sent again after a lost answer, it is the same job.
        "Idempotency-Key": secrets.token_hex(8),
    }
    url = server_url.replace("ws", "http", 1).removesuffix("/ws") + "/api/v1/jobs"
    with urlopen(Request(url, body, headers, method="POST"), timeout=DEADLINE_S) as response:
        told = json.load(response)
    print(f"client: {response.status}, it will be at {told['status_url']}")
    job_id: str = told["job_id"]
    return job_id


async def follow(client: livechat.Client, job_id: str) -> None:
    """Print what is told of a job, up to its end."""
    async for event in client.job_events(job_id):
        line = f"client: {event.event_seq:3} {event.state:9} {event.progress:4.0%}"
        if event.partial is not None:
            line += f"  {event.partial!r}"
        if event.error is not None:
            line += f"  {event.error.code} {event.error.reason}"
        print(line)
    print(f"client: the result is {event.result}")


async def main(text: str) -> None:
    """Run the host program and its client."""
    secret = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory() as folder:
        config = livechat.Config(port=0, udp_port=0, data_dir=Path(folder), secret=secret)
        async with livechat.open_server(config) as server:
            server.add_job_handler(
                "count_words", count_words, input=Words, timeout_s=DEADLINE_S, safe_to_rerun=True
            )
            async with livechat.open_client(server.url, secret, user_id="alice") as client:
                post = partial(post_job, server.url, secret, "alice", text)
                await follow(client, await trio.to_thread.run_sync(post))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Have livechat do a job, and follow it.")
    parser.add_argument("--text", default=TEXT, help="whose words are counted")
    arguments = parser.parse_args()
    # The library logs by structlog and leaves it to the host where that goes; this one wants problems only.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    trio.run(main, arguments.text)
