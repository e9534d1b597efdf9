"""Owns the start of a worker's process: `python -m livechat.media.workers PIPE UDP`, two inherited descriptors.

It must not be started by hand: the gateway (`livechat serve --media-workers N`) starts and ends its workers.
"""

from __future__ import annotations

import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They go to the whole group, or control group; what they mean is the gateway's to say."""


def main(arguments: list[str]) -> None:
    """Run a worker until its gateway ends it, or ends itself."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Only now: loading takes long enough for a Ctrl-C to come.
    import socket

    import trio

    from livechat.media.workers.child import Worker
    from livechat.tuning import tune_process

    async def run() -> None:
        pipe, sock = (socket.socket(fileno=int(argument)) for argument in arguments)
        with sock:
            sock.setblocking(False)
            worker = Worker(pipe, sock)
            worker.configure_log()
            await worker.run()

    tune_process()
    trio.run(run)


if __name__ == "__main__":
    main(sys.argv[1:])
