"""A command of livechat on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable

from tests.support.process import PATIENCE_S, clean_environment

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_terminal(
    columns: int, *arguments: str, interrupt_at: Callable[[str], bool] | None = None
) -> tuple[int, str]:
    """Run a command; return (exit status, all that it wrote to the terminal).

    Args:
        interrupt_at: Ctrl-C is pressed once this holds for what was written.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "livechat", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean_environment(), "TERM": "xterm-256color", "COLUMNS": "", "NO_COLOR": ""},
        start_new_session=True,
    )
    os.close(theirs)
    written = ""
    try:
        while data := _read(ours):
            written += data.decode()
            if interrupt_at is not None and interrupt_at(written):
                process.send_signal(signal.SIGINT)
                interrupt_at = None
        return process.wait(PATIENCE_S), written.replace("\r\n", "\n")
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _read(descriptor: int) -> bytes:
    if not select.select([descriptor], [], [], PATIENCE_S)[0]:
        raise TimeoutError("nothing was written to the terminal")
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""  # Linux says EIO at the end of a terminal


def without_colours(text: str) -> str:
    """Return what is seen of a text that was written to a terminal."""
    return ESCAPES.sub("", text)
