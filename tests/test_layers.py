"""The rooms of the architecture: who may import whom, and what the pure ones must not touch."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import livechat

PACKAGE = Path(livechat.__file__).parent

ROOMS = (
    "version",
    "error",
    "protocol",
    "rtp",
    "srtp",
    "hub",
    "store",
    "cluster",
    "handlers",
    "gateway",
    "media",
    "http",
    "config",
    "server",
    "__init__",
    "cli",
    "__main__",
)
"""From the bottom up; each may import only from itself and from those before it."""

PURE = {"version", "error", "protocol", "rtp", "srtp", "hub"}
IMPURE = {"trio", "socket", "time", "random", "structlog", "secrets", "os", "ssl", "threading", "datetime"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """Yield the absolute dotted names that a module imports, wherever in it; `from a import b` is `a.b`."""
    package = ["livechat", *module.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def rooms_imported(module: Path) -> Iterator[str]:
    for name in imports(module):
        package, _, rest = name.partition(".")
        if package == "livechat":
            room = rest.partition(".")[0]
            yield room if room in ROOMS else "__init__"


def by_name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def test_every_module_belongs_to_a_room() -> None:
    assert {room_of(module) for module in MODULES} <= set(ROOMS)
    assert len(MODULES) > 40


@pytest.mark.parametrize("module", MODULES, ids=by_name)
def test_a_room_imports_only_from_those_before_it(module: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room_of(module)) + 1]
    assert set(rooms_imported(module)) <= set(allowed)


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in PURE], ids=by_name)
def test_a_pure_room_has_no_clock_socket_randomness_log_or_task(module: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(module)} & IMPURE
    assert not [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", MODULES, ids=by_name)
def test_nothing_runs_on_asyncio(module: Path) -> None:
    assert "asyncio" not in {name.partition(".")[0] for name in imports(module)}


@pytest.mark.parametrize("module", MODULES, ids=by_name)
def test_every_module_says_what_it_owns(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert ast.get_docstring(tree)
    if module.name == "__init__.py" and module.parent != PACKAGE:
        assert len(tree.body) == 1, "the docstring only"


def test_the_public_names_are_sorted_unique_and_there() -> None:
    assert livechat.__all__ == sorted(livechat.__all__)
    assert len(set(livechat.__all__)) == len(livechat.__all__)
    for name in livechat.__all__:
        assert getattr(livechat, name) is not None


def test_every_imported_public_name_is_listed() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert imported == set(livechat.__all__)


def test_the_import_walk_sees_relative_and_nested_imports(tmp_path: Path) -> None:
    """The walk is what the other tests rest on."""
    assert set(imports(PACKAGE / "gateway" / "head.py")) >= {"ipaddress.ip_address", "urllib.parse.parse_qs"}
    assert "hub" in set(rooms_imported(PACKAGE / "gateway" / "connection.py"))
    assert importlib.import_module("livechat.gateway.head")
