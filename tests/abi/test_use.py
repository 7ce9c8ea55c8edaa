"""Hold the layers: who may import whom, and that ctypes stays below _ffi."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from corkbind._ffi.signatures import MADE_ONLY, TABLE

PACKAGE = Path(__file__).resolve().parents[2] / "corkbind"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "testing" not in path.parts)
OWN = {f"corkbind.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}" for path in FILES}

# Each layer imports only from itself and from those before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_ffi.constants", "errors"),
    ("_ffi.layouts", "_ffi.signatures", "_ffi.loader", "_ffi.callbacks", "_ffi.calls", "_ffi.capsule"),
    (
        "fields",
        "percent",
        "cookies",
        "limits",
        "options",
        "fixed",
        "exchange",
        "body",
        "flow",
        "disk",
        "streaming",
        "sse",
        "body_chunks",
        "multipart",
        "parts",
        "ranges",
        "validators",
        "negotiation",
        "content_types",
        "page_cache",
        "files",
        "static_files",
        "request",
        "response",
        "cork",
        "places",
        "uncorked",
        "hand_corking",
        "proxies",
        "cork_modes",
        "enums",
        "websocket",
        "ws_behavior",
        "ws_core",
        "ws_flow",
        "ws_inbox",
        "ws_origins",
        "ws_pressure",
        "ws_payload",
        "ws_topics",
        "hostnames",
        "certificates",
    ),
    (
        "tasks",
        "abort_scope",
        "segments",
        "bridge",
        "dispatch",
        "ws_dispatch",
        "routing",
        "middleware",
        "router",
        "extension",
        "site",
        "domain",
        "app_routes",
        "stats",
        "app_topics",
        "app_native",
        "udp",
        "udp_arguments",
        "udp_corking",
        "udp_inbox",
        "app_names",
        "inspector.report",
        "inspector.mount",
        "address",
        "tls",
        "serving",
        "app_loop",
        "loop",
        "client_tls",
        "socket",
        "socket_context",
        "timer",
        "stream",
        "streams",
        "task_factory",
        "app",
    ),
)
LAST = len(LAYERS)  # __init__, cli, adapters
WITHOUT_ASYNCIO = {f"corkbind.{name}" for layer in LAYERS[:3] for name in layer}


def module_of(path: Path) -> str:
    return f"corkbind.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"


def layer_of(module: str) -> int:
    name = module.removeprefix("corkbind.")
    return next((number for number, layer in enumerate(LAYERS) if name in layer), LAST)


def runtime_imports(tree: ast.Module) -> set[str]:
    """Return what a module imports when it runs: not what stands under TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(inner & OWN or {node.module})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports(path: Path) -> None:
    module = module_of(path)
    imports = runtime_imports(ast.parse(path.read_text()))
    layer = layer_of(module)
    for name in imports & OWN:
        assert layer_of(name) <= layer, f"{module} must not import {name}"
    if not module.startswith("corkbind._ffi"):
        assert "ctypes" not in imports
    if module in WITHOUT_ASYNCIO:
        assert "asyncio" not in imports


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_words_of_ctypes_stay_below(path: Path) -> None:
    if "_ffi" not in path.parts:
        tree = ast.parse(path.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & {"argtypes", "restype", "errcheck", "byref"}


def test_every_library_function_used_is_in_the_table() -> None:
    rows = {row.name for row in TABLE} | MADE_ONLY
    for path in FILES:
        used = set(re.findall(r"\b(?:lib|library)\.(ck_\w+)", path.read_text()))
        assert used <= rows, path


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    tree = ast.parse(text)
    assert (ast.get_docstring(tree) or "").split("\n")[0].endswith((".", ":", "`.")), "a file opens with one sentence"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
            assert lines <= 50, f"{path.name}: {node.name} has {lines} lines"
