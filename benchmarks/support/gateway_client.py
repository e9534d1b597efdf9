"""Owns a client process of the gateway's benchmark: `python -m benchmarks.support.gateway_client`.

It reads commands, a line of JSON each, from standard input, and answers each with a line: what came out, or
`failed`. The first one says what to connect to. It must not start processes, nor do anything between two commands.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

from benchmarks.support.chunks import Viewers
from benchmarks.support.dialects import Dialect, Livechat, Nats, Plain, SocketIo
from benchmarks.support.fan_load import Crowd, Unaccounted
from benchmarks.support.inbound import Askers
from benchmarks.support.inflate import Inflater
from benchmarks.support.processes import allow_many_sockets
from benchmarks.support.sockets import Unreachable, open_rooms


def dialect_of(name: str, token: str) -> Dialect:
    """Return a dialect by its name."""
    if name == "livechat":
        return Livechat(token)
    others: dict[str, type[Dialect]] = {"plain": Plain, "socket.io": SocketIo, "nats": Nats}
    return others[name]()


class Client:
    """Everything that can be asked of the process."""

    def __init__(self) -> None:
        self._load: Crowd | Askers | Viewers | None = None

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry one command out.

        Raises:
            Unreachable, Unaccounted: see there.
        """
        kind = command.pop("do")
        if kind == "connect":
            return self._connect(**command)
        assert self._load is not None
        return self._load.run(**command)

    def _connect(
        self,
        load: str,
        server: dict[str, Any],
        rooms: int,
        members: int,
        thin: int = 0,
        deflate: bool = False,
    ) -> dict[str, Any]:
        pid, spoken = server["pid"], dialect_of(server["dialect"], server["token"])
        start = time.perf_counter()
        inflaters: dict[int, Inflater] | None = {} if deflate else None
        sockets = open_rooms(("127.0.0.1", server["port"]), spoken, rooms, members, thin, inflaters)
        seconds = time.perf_counter() - start
        if load == "crowd":
            self._load = Crowd(spoken, sockets, pid, inflaters)
        elif load == "askers":
            self._load = Askers([first for first, *_ in sockets], pid)
        else:
            self._load = Viewers(sockets[0], thin, pid)
        return {"connected": rooms * members, "seconds": round(seconds, 3)}


def main() -> None:
    """Do what comes in, until nothing more does."""
    allow_many_sockets()
    client = Client()
    # Pauses of the collector here would look like the server's.
    gc.disable()
    for line in sys.stdin:
        try:
            answer = client.do(json.loads(line))
        except (Unreachable, Unaccounted) as exc:
            answer = {"failed": str(exc)}
        except OSError as exc:
            answer = {"failed": f"connection lost: {exc}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
