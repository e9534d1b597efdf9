from __future__ import annotations

import os
from pathlib import Path

from tests.examples.programs import run


async def test_a_job_is_handed_in_and_followed_to_its_result(tmp_path: Path) -> None:
    done = await run("job", "--text", "a b a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    printed = done.stdout.decode()
    for expected in ("client: 202, it will be at /api/v1/jobs/job_", "queued", "'a'", "'b'", "succeeded", "100%"):
        assert expected in printed
    assert printed.endswith("client: the result is {'a': 2, 'b': 1}\n")
    assert os.listdir(tmp_path) == []
