"""Read corkbind.h as the compiler does, for the tests that compare with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "corkbind" / "include" / "corkbind.h"
# Enough of the standard headers for a parser without compiler extensions.
TYPES = (
    "typedef unsigned int uint32_t; typedef unsigned char uint8_t; typedef int int32_t; typedef unsigned long uint64_t;"
    "typedef long int64_t; typedef unsigned long size_t; typedef long ptrdiff_t;\n"
)


@cache
def parsed() -> Any:
    """Return the syntax tree of the header."""
    parser = pytest.importorskip("pycparser")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to preprocess the header")
    source = re.sub(r"#include <[^>]*>", "", HEADER.read_text())
    command = ["gcc", "-E", "-P", "-DCK_EXPORT=", "-x", "c", "-"]
    plain = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return parser.CParser().parse(TYPES + plain)


def declarations(kind: str) -> list[Any]:
    """Return the top-level nodes of a kind: Typedef, Decl."""
    return [node for node in parsed().ext if type(node).__name__ == kind]


def functions() -> dict[str, Any]:
    """Return the functions of the header by name, in header order."""
    return {node.name: node.type for node in declarations("Decl") if type(node.type).__name__ == "FuncDecl"}


def enums() -> dict[str, int]:
    """Return all enum values of the header by name."""
    values: dict[str, int] = {}
    for node in declarations("Decl"):
        if type(node.type).__name__ != "Enum" or node.type.values is None:
            continue
        following = 0
        for item in node.type.values.enumerators:
            if item.value is not None:
                following = _constant(item.value)
            values[item.name] = following
            following += 1
    return values


def structs() -> dict[str, list[tuple[str, str]]]:
    """Return (field, type) of each structure that the header defines."""
    found = {}
    for node in declarations("Typedef"):
        inner = node.type.type
        if type(inner).__name__ == "Struct" and inner.decls is not None:
            found[node.name] = [(field.name, type_text(field.type)) for field in inner.decls]
    return found


def parameters(function: Any) -> list[str]:
    """Return the parameter types of a function."""
    texts = ["..." if type(p).__name__ == "EllipsisParam" else type_text(p.type) for p in function.args.params]
    return [] if texts == ["void"] else texts


def type_text(node: Any) -> str:
    """Write a type as in C, without const: "uint32_t", "char *", "ck_stats *"."""
    kind = type(node).__name__
    if kind == "PtrDecl":
        if type(node.type).__name__ == "FuncDecl":
            return f"{type_text(node.type.type)} (*)({', '.join(parameters(node.type))})"
        return type_text(node.type).removesuffix("*").rstrip() + " " + "*" * (type_text(node.type).count("*") + 1)
    if kind == "ArrayDecl":
        return f"{type_text(node.type)} []"
    if kind == "TypeDecl":
        return type_text(node.type)
    if kind == "Struct":
        return f"struct {node.name}"
    return " ".join(node.names)


def hot_functions() -> set[str]:
    """Return the functions that the header marks [hot], before or behind the declaration."""
    hot = set()
    text = HEADER.read_text()
    for match in re.finditer(r"^CK_EXPORT [^;]*?(\w+)\([^;]*\);([^\n]*)", text, flags=re.M):
        before = text[: match.start()].rstrip()
        comment = before[before.rfind("/*") :] if before.endswith("*/") else ""
        own_line = not re.search(r";[^\n]*$", text[: text.rfind("/*", 0, match.start())].rsplit("\n", 1)[-1])
        if "[hot]" in match.group(2) or (own_line and comment.startswith("/* [hot]")):
            hot.add(match.group(1))
    return hot


def _constant(node: Any) -> int:
    if type(node).__name__ == "UnaryOp":
        return -_constant(node.expr)
    return int(node.value, 0)
