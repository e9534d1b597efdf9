from __future__ import annotations

import io
import os

from livechat.cli.logs import LINES_WAITING_MAX, LogStream


def test_lines_are_written_in_order() -> None:
    file = io.StringIO()
    stream = LogStream(file)
    for number in range(100):
        stream.write(f"{number}\n")
    assert stream.wait_written(10)
    assert file.getvalue().split() == [str(number) for number in range(100)]


def test_a_closed_pipe_harms_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", closefd=False) as file:
        stream = LogStream(file)
        stream.write("nobody reads this\n")
        assert stream.wait_written(10)
        # What a text file could not write it keeps, and would try again on being closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    os.close(writing)


def test_a_pipe_that_nobody_reads_blocks_nobody() -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as file:
        stream = LogStream(file)
        for _ in range(LINES_WAITING_MAX + 5000):
            stream.write("x" * 100 + "\n")
        assert not stream.wait_written(0)
        # Whoever comes to read frees the thread.
        while not stream.wait_written(0.01):
            os.read(reading, 1 << 20)
    os.close(reading)
