"""Owns where the peers written for node get their packages: a folder outside of this project, filled by npm.

It must not touch any other folder. The packages are fetched once and kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

PACKAGES: Final = {"ws": "ws@8", "socket.io": "socket.io@4"}
"""Name -> what npm is asked for."""
TIMEOUT_S: Final = 120.0


def default_folder() -> Path:
    """Return where a user's caches are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "livechat-benchmarks"


def modules(folder: Path) -> Path:
    """Return the folder in which node finds the packages (NODE_PATH)."""
    return folder / "node_modules"


def provide(folder: Path) -> str | None:
    """See that node and the packages are there, installing what is not; returns what is lacking, or None."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if "node" in missing:
        return "node"
    if all((modules(folder) / name).is_dir() for name in PACKAGES):
        return None
    if missing:
        return "npm"
    folder.mkdir(parents=True, exist_ok=True)
    # Without a manifest in the folder npm would look for one above it.
    (folder / "package.json").write_text('{"private": true}\n')
    command = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", *PACKAGES.values()]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{' and '.join(PACKAGES)}: npm install took more than {TIMEOUT_S:g} s"
    if done.returncode != 0:
        return f"{' and '.join(PACKAGES)}: npm install failed: {_last_line(done.stderr)}"
    return None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "without a word"
