"""Find code that writes outside a cork, without running it: `corkbind lint path/`."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from corkbind.lint_flow import Finding, Flow, Function, joined, parameters

_METHODS: Final = frozenset(
    [
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "options",
        "head",
        "connect",
        "trace",
        "any",
        "add_route",
        "on_error",
        "set_error_handler",
    ]
)
_NAMES: Final = frozenset(("res", "response", "resp"))
_TYPES: Final = frozenset(("HttpResponse", "Response", "AppResponse"))
_DESCRIPTION: Final = """\
Find places where a handler of an App(cork="manual") writes after an await outside a cork,
or from a callback or task of its own. Exit status: 0 nothing found, 1 something found,
2 a file cannot be read or parsed."""


class Module(NamedTuple):
    """Be one parsed file; `modes` is the cork mode of each app and router by its name."""

    path: Path
    tree: ast.Module
    modes: dict[str, str]


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="corkbind lint", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="path", help="a file, or a folder that is searched for *.py")
    parser.add_argument("--all", action="store_true", help="look at the handlers of apps in every mode")
    options = parser.parse_args(arguments)
    try:
        modules = [_read(path) for path in _files(options.paths)]
    except (OSError, SyntaxError, ValueError) as error:
        print(f"corkbind lint: {error}", file=sys.stderr)
        return 2
    count = 0
    for module in modules:
        _import_modes(module, modules)
    for module in modules:
        for finding in lint(module, options.all):
            count += 1
            print(
                f"{module.path}:{finding.line}:{finding.column}: {finding.what} {finding.why}, outside a cork; fix: {finding.fix}"
            )
    if count:
        print(f"{count} {'place' if count == 1 else 'places'} found", file=sys.stderr)
    return 1 if count else 0


def lint(module: Module, everything: bool = False) -> Iterator[Finding]:
    """Give what is found in a module.

    Args:
        everything: also where the app is in another mode than manual, or not known.
    """
    functions: dict[str, Function] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions.setdefault(node.name, node)
    registered = dict(_registered(module, functions))
    manual_file = "manual" in module.modes.values()
    nested = {id(inner) for outer in functions.values() for inner in ast.walk(outer) if inner is not outer}
    found: dict[tuple[int, int], Finding] = {}
    for function, mode in [*registered.items(), *((one, "") for one in functions.values() if one not in registered)]:
        responses = _responses(function, bool(mode))
        wanted = everything or mode == "manual" or (not mode and manual_file)
        if responses and wanted and (mode or id(function) not in nested):
            found.update(Flow(functions, responses).run(function).found)
    yield from joined(found.values())


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (
                file for file in path.rglob("*.py") if not any(part.startswith(".") for part in file.parts[len(path.parts) :])
            )
            yield from sorted(inside)
        else:
            yield path


def _read(path: Path) -> Module:
    tree = ast.parse(path.read_bytes(), str(path))
    modes: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call):
            mode = _mode(node.value, modes)
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            modes.update({target.id: mode for target in targets if mode and isinstance(target, ast.Name)})
    return Module(path, tree, modes)


def _mode(call: ast.Call, modes: dict[str, str]) -> str:
    """Return the cork mode of the app or router that a call, or the chain it ends, makes; "" for neither."""
    at: ast.expr = call
    while True:
        if isinstance(at, ast.Call):
            name = at.func.id if isinstance(at.func, ast.Name) else at.func.attr if isinstance(at.func, ast.Attribute) else ""
            if name == "App":
                values = [word.value for word in at.keywords if word.arg == "cork"]
                return str(values[0].value) if values and isinstance(values[0], ast.Constant) else "auto"
            if name == "MiddlewareRouter" and at.args and isinstance(at.args[0], ast.Name):
                return modes.get(at.args[0].id, "")
            at = at.func
        elif isinstance(at, ast.Attribute):
            at = at.value
        else:
            return modes.get(at.id, "") if isinstance(at, ast.Name) else ""


def _import_modes(module: Module, modules: Sequence[Module]) -> None:
    """Take over the modes of apps that a module imports from another one that was read."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for other in modules:
                if other.path.stem == node.module.split(".")[-1]:
                    for alias in node.names:
                        if alias.name in other.modes:
                            module.modes.setdefault(alias.asname or alias.name, other.modes[alias.name])


def _registered(module: Module, functions: dict[str, Function]) -> Iterator[tuple[Function, str]]:
    """Give the functions that are handlers of apps, with their app's mode."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                mode = _adds(decorator, module.modes)
                if mode:
                    yield node, mode
        elif isinstance(node, ast.Call) and (mode := _adds(node, module.modes)):
            for part in ast.walk(node):
                if isinstance(part, ast.Lambda):
                    yield part, mode
                elif isinstance(part, ast.Name) and part.id in functions:
                    yield functions[part.id], mode


def _adds(node: ast.expr, modes: dict[str, str]) -> str:
    """Return the mode of the app to which an expression adds a handler, or ""."""
    method = node.func if isinstance(node, ast.Call) else node
    if not isinstance(method, ast.Attribute) or method.attr not in _METHODS:
        return ""
    at = method.value
    return modes.get(at.id, "") if isinstance(at, ast.Name) else _mode(at, modes) if isinstance(at, ast.Call) else ""


def _responses(function: Function, registered: bool) -> set[str]:
    """Return the names of a function's parameters that are responses."""
    names = parameters(function)
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    typed = {one.arg for one in arguments if one.annotation is not None and ast.unparse(one.annotation).split(".")[-1] in _TYPES}
    named = {name for name in names if name in _NAMES}
    return typed | named or (set(names[:1]) if registered else set())
