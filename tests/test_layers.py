"""The rooms of the architecture: who may import whom, and what the pure ones must not touch."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import livechat

PACKAGE = Path(livechat.__file__).parent

ROOMS = (
    "version",
    "error",
    "tuning",
    "protocol",
    "limits",
    "telemetry",
    "rtp",
    "srtp",
    "client",
    "hub",
    "store",
    "cluster",
    "files",
    "tokens",
    "accounts",
    "handlers",
    "gateway",
    "media",
    "jobs",
    "http",
    "config",
    "credentials",
    "front",
    "server",
    "__init__",
    "cli",
    "__main__",
)
"""From the bottom up; each may import only from itself and from those before it."""

PURE = {"version", "error", "protocol", "limits", "rtp", "srtp", "hub"}
CLIENT_SHELL = {
    "api",
    "client",
    "floor",
    "following",
    "link",
    "runner",
    "sent",
    "stream",
    "subscribers",
    "watching",
}
"""The modules of the client that are not pure."""
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


def is_pure(module: Path) -> bool:
    room = room_of(module)
    return room in PURE or (room == "client" and module.stem not in CLIENT_SHELL)


@pytest.mark.parametrize("module", [module for module in MODULES if is_pure(module)], ids=by_name)
def test_a_pure_room_has_no_clock_socket_randomness_log_or_task(module: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(module)} & IMPURE
    assert not [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "client"], ids=by_name)
def test_the_client_needs_nothing_of_the_server(module: Path) -> None:
    assert set(rooms_imported(module)) <= {"version", "error", "protocol", "rtp", "srtp", "client"}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) != "client"], ids=by_name)
def test_the_server_needs_nothing_of_the_client(module: Path) -> None:
    assert room_of(module) in ("__init__", "cli") or "client" not in set(rooms_imported(module))


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


def test_every_public_name_is_what_type_checkers_believe_it_to_be() -> None:
    typed = {
        alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("livechat.")
        for alias in node.names
    }
    assert set(typed) == set(livechat.__all__)
    for name, value in typed.items():
        assert getattr(livechat, name) is value


def test_public_names_are_listed_before_they_are_used() -> None:
    assert dir(livechat) == livechat.__all__


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(livechat, "no_such_name")  # noqa: B009 - mypy would see that it is not there


def test_who_needs_only_the_client_loads_nothing_of_the_server() -> None:
    program = "import livechat, sys; livechat.open_client; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    rooms = {name.split(".")[1] for name in modules.split() if name.startswith("livechat.")}
    assert rooms == {"client", "error", "protocol"}


def test_the_import_walk_sees_relative_and_nested_imports(tmp_path: Path) -> None:
    """The walk is what the other tests rest on."""
    assert set(imports(PACKAGE / "gateway" / "head.py")) >= {"ipaddress.ip_address", "urllib.parse.parse_qs"}
    assert "hub" in set(rooms_imported(PACKAGE / "gateway" / "connection.py"))
    assert importlib.import_module("livechat.gateway.head")
