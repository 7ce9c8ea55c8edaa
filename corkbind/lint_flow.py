"""Walk through a function as it runs, and find the writes that no cork in the source holds.

The walk keeps two facts: whether the code has waited (or runs in a callback or
task, which is as if it had), and which responses are corked. Branches are joined
to the worse of both, loops are walked twice, and a path that has returned or
raised is left out. Local functions are followed where they are called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

WRITES: Final = frozenset(
    [
        "end",
        "end_without_body",
        "json",
        "redirect",
        "send",
        "send_chunk",
        "try_end",
        "write",
        "write_continue",
        "write_header",
        "write_status",
    ]
)
#: Calls that run what they are given corked, or at once.
_CORKED: Final = frozenset(("on_data", "on_writable", "on_aborted"))
_AT_ONCE: Final = frozenset(["all", "any", "filter", "list", "map", "max", "min", "partial", "reduce", "sorted", "sum", "tuple"])
_SPAWN: Final = frozenset(
    ["create_task", "ensure_future", "gather", "run_coroutine_threadsafe", "shield", "spawn", "start_soon", "wait", "wait_for"]
)
_ONE_SEND: Final = {"end": "cork_end", "send": "cork_send"}


class Finding(NamedTuple):
    """Be one place, or several statements in a row, that write outside a cork."""

    line: int
    column: int
    last_line: int
    what: str
    why: str
    fix: str


class Flow:
    """Walk one function and those that it calls.

    Args:
        functions: of the module, by name.
        responses: the names that responses have here.
        why: why all of it runs outside a cork; "" = only what follows a wait.
    """

    def __init__(self, functions: dict[str, Function], responses: Iterable[str], why: str = "", depth: int = 0) -> None:
        self._functions = dict(functions)
        self._responses = frozenset(responses)
        self._why = why
        self._corked: frozenset[str] = frozenset()
        self._depth = depth
        self.found: dict[tuple[int, int], Finding] = {}

    def run(self, function: Function) -> Flow:
        """Walk through a function's body."""
        if isinstance(function, ast.Lambda):
            self._expression(function.body)
        else:
            self._block(function.body)
        return self

    # -- Statements --

    def _block(self, statements: list[ast.stmt]) -> bool:
        """Walk statements; tell whether their end is reached."""
        return all(self._statement(statement) for statement in statements)

    def _statement(self, statement: ast.stmt) -> bool:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            self._functions[statement.name] = statement
            return True
        if isinstance(statement, ast.ClassDef):
            return True
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            return self._with(statement)
        if isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            return self._loop(statement)
        if isinstance(statement, ast.If):
            self._expression(statement.test)
            return self._branches([statement.body, statement.orelse])
        if isinstance(statement, ast.Try) or type(statement).__name__ == "TryStar":
            return self._try(statement)  # type: ignore[arg-type]
        if isinstance(statement, ast.Match):
            self._expression(statement.subject)
            return self._branches([*(case.body for case in statement.cases), []])
        for part in ast.iter_child_nodes(statement):
            self._expression(part)
        return not isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue))

    def _branches(self, blocks: list[list[ast.stmt]]) -> bool:
        before, after, reached = self._why, [], False
        for block in blocks:
            self._why = before
            if self._block(block):
                after.append(self._why)
                reached = True
        self._why = next((why for why in after if why), before)
        return reached

    def _with(self, statement: ast.With | ast.AsyncWith) -> bool:
        corked = self._corked
        for item in statement.items:
            self._expression(item.context_expr)
            name = self._corked_by(item.context_expr)
            if name:
                alias = item.optional_vars
                self._corked |= {name, *([alias.id] if isinstance(alias, ast.Name) else [])}
        if isinstance(statement, ast.AsyncWith):
            self._waits()
        reached = self._block(statement.body)
        if isinstance(statement, ast.AsyncWith):
            self._waits()
        self._corked = corked
        return reached

    def _loop(self, statement: ast.For | ast.AsyncFor | ast.While) -> bool:
        self._expression(statement.test if isinstance(statement, ast.While) else statement.iter)
        for _ in range(2):  # what waits at the end of the body has waited at its beginning
            if isinstance(statement, ast.AsyncFor):
                self._waits()
            self._block(statement.body)
        self._block(statement.orelse)
        return True

    def _try(self, statement: ast.Try) -> bool:
        reached = self._block(statement.body) and self._block(statement.orelse)
        handled = self._branches([*(handler.body for handler in statement.handlers), []]) if statement.handlers else False
        return self._block(statement.finalbody) and (reached or handled)

    # -- Expressions --

    def _expression(self, node: ast.AST) -> None:
        if isinstance(node, ast.Await):
            if isinstance(node.value, ast.Call):
                self._call(node.value, awaited=True)
            else:
                self._expression(node.value)
            self._waits()
        elif isinstance(node, ast.Call):
            self._call(node)
        elif not isinstance(node, ast.Lambda):  # whoever is given a lambda decides
            if isinstance(node, ast.comprehension) and node.is_async:
                self._waits()
            for part in ast.iter_child_nodes(node):
                self._expression(part)

    def _waits(self) -> None:
        self._why = self._why or "after an await"

    def _call(self, call: ast.Call, awaited: bool = False) -> None:
        method, root, chain = _chain(call)
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        if root in self._responses and method == "cork":
            return
        for part in [call.func, *given]:
            inner = part.value if isinstance(part, ast.Starred) else part
            if method in _SPAWN and isinstance(inner, ast.Call):
                self._spawned(inner)
            elif not (part is call.func and root in self._responses):
                self._expression(inner)
        if root in self._responses:
            for one in reversed(chain):
                for part in (*one.args, *(keyword.value for keyword in one.keywords)):
                    if one is not call:
                        self._expression(part)
            self._writes(call, root, [one.func.attr for one in chain if isinstance(one.func, ast.Attribute)])
            if method in _CORKED:
                return
        if method not in _AT_ONCE and method not in _CORKED:
            for part in given:
                self._given_away(part, method)
        self._follow(call, root, awaited)

    def _writes(self, call: ast.Call, root: str, methods: list[str]) -> None:
        written = [name for name in methods if name in WRITES]
        if not written or not self._why or root in self._corked:
            return
        what = f"{root}.{written[-1]}()" if len(written) == 1 else f"{len(written)} writes to {root}"
        one = _ONE_SEND.get(written[0]) if len(written) == len(methods) == 1 else None
        fix = f"{root}.{one}(...)" if one else f"with {root}.corked():"
        self._find(call, what, fix)

    def _find(self, node: ast.Call, what: str, fix: str, why: str = "") -> None:
        start = node.lineno, node.col_offset + 1
        self.found.setdefault(start, Finding(*start, node.end_lineno or node.lineno, what, why or self._why, fix))

    # -- Other functions --

    def _spawned(self, call: ast.Call) -> None:
        """Look at a coroutine that becomes a task of its own."""
        function, responses = self._called(call)
        if function is not None:
            self._inside(function, responses, "in a task of its own")
        for part in (*call.args, *(keyword.value for keyword in call.keywords)):
            self._expression(part)

    def _given_away(self, part: ast.expr, method: str) -> None:
        """Look at a function that somebody else will call."""
        if isinstance(part, ast.Lambda):
            self._inside(part, self._responses - set(parameters(part)), f"in a callback of {method or 'another function'}()")
        elif isinstance(part, ast.Name) and part.id in self._functions:
            function = self._functions[part.id]
            if not isinstance(function, ast.AsyncFunctionDef) or method in _SPAWN:
                own = set(parameters(function))
                self._inside(function, self._responses - own, f"in a callback of {method or 'another function'}()")

    def _inside(self, function: Function, responses: Iterable[str], why: str) -> None:
        if self._depth < 4:
            inner = Flow(self._functions, responses, why, self._depth + 1)
            inner._corked = self._corked if not why else frozenset()
            self.found.update(inner.run(function).found)

    def _follow(self, call: ast.Call, root: str, awaited: bool) -> None:
        """Look at what a function of this module writes when it is called here."""
        function, responses = self._called(call)
        if function is None or self._depth >= 4 or (isinstance(function, ast.AsyncFunctionDef) and not awaited):
            return
        inner = Flow(self._functions, responses, self._why, self._depth + 1)
        inner._corked = frozenset(responses) if self._corked else frozenset()
        found = inner.run(function).found
        given = [name for part in call.args if isinstance(part, ast.Name) and (name := part.id) in self._responses]
        if found and self._why and given:
            self._find(call, f"{_chain(call)[0]}({given[0]}), which writes,", f"with {given[0]}.corked():")
        elif found and not given:
            self.found.update(found)

    def _called(self, call: ast.Call) -> tuple[Function | None, frozenset[str]]:
        """Return a function of this module that a call runs, and the names that responses have in it."""
        if not isinstance(call.func, ast.Name) or call.func.id not in self._functions:
            return None, frozenset()
        function = self._functions[call.func.id]
        names = parameters(function)
        passed = {
            name
            for name, part in zip(names, call.args, strict=False)
            if isinstance(part, ast.Name) and part.id in self._responses
        }
        return function, frozenset(passed | (self._responses - set(names)))

    def _corked_by(self, node: ast.expr) -> str:
        method, root, _ = _chain(node) if isinstance(node, ast.Call) else ("", "", [])
        return root if method == "corked" and root in self._responses else ""


def _chain(call: ast.Call) -> tuple[str, str, list[ast.Call]]:
    """Return the method of a call, the name that its chain of calls begins with, and the chain, the last first."""
    chain = [call]
    at: ast.expr = call.func
    method = at.attr if isinstance(at, ast.Attribute) else at.id if isinstance(at, ast.Name) else ""
    while isinstance(at, ast.Attribute):
        at = at.value
        if isinstance(at, ast.Call):
            chain.append(at)
            at = at.func
    plain = all(isinstance(one.func, ast.Attribute) for one in chain)
    return method, at.id if isinstance(at, ast.Name) and plain else "", chain


def parameters(function: Function) -> list[str]:
    arguments = function.args
    return [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def joined(found: Iterable[Finding]) -> Iterator[Finding]:
    """Give findings in order, those in neighbouring lines and for one reason as one."""
    last: Finding | None = None
    for finding in sorted(found):
        if last and finding.line <= last.last_line + 1 and finding.column == last.column and finding.why == last.why:
            name = last.fix.split(".")[0].removeprefix("with ")
            what = f"writes to {name} in lines {last.line} to {finding.last_line}"
            last = last._replace(last_line=finding.last_line, what=what, fix=f"with {name}.corked():")
            continue
        if last:
            yield last
        last = finding
    if last:
        yield last
