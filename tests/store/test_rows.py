from __future__ import annotations

import re
import subprocess
import sys

from livechat.store.rows import MESSAGE_IDS_DRAWN, new_message_id

FORKING = """
import os
from livechat.store.rows import new_message_id
new_message_id()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(*[new_message_id() for _ in range(10)], flush=True)
"""


def test_message_ids_are_96_bits_in_hex_and_differ() -> None:
    ids = [new_message_id() for _ in range(5 * MESSAGE_IDS_DRAWN)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("msg_[0-9a-f]{24}", each) for each in ids)


def test_a_process_and_its_fork_use_different_message_ids() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=60)
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 20
