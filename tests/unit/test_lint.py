"""Lint snippets: each with the lines that must be found, marked by `# !`, and no others."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corkbind.cli import main
from corkbind.lint import Module, _read, lint

HEAD = 'from corkbind import App\napp = App(cork="manual")\n'

# Bodies of `async def handler(res, req):`.
BODIES = {
    "a write after an await": """
        await db()
        res.end("x")  # !
    """,
    "no await": """
        res.write_status(200)
        res.end("x")
    """,
    "a write before an await": """
        res.write_status(200)
        await db()
    """,
    "several writes in a row are one finding": """
        await db()
        res.write_status(200)  # !
        res.write_header("A", "b")
        res.end("x")
    """,
    "a chain of writes": """
        await db()
        res.write_status(200).write_header("A", "b").end("x")  # !
    """,
    "a corked block": """
        await db()
        with res.corked():
            res.write_status(200)
            res.end("x")
    """,
    "a corked block with a name": """
        await db()
        with res.corked() as r:
            res.write_status(200)
    """,
    "a wait inside a corked block, which corks again": """
        with res.corked():
            await db()
            res.end("x")
    """,
    "after a corked block": """
        await db()
        with res.corked():
            res.write_status(200)
        res.end("x")  # !
    """,
    "another context manager": """
        await db()
        with lock():
            res.end("x")  # !
    """,
    "cork with a lambda": """
        await db()
        res.cork(lambda res: res.write_status(200).end("x"))
    """,
    "cork with a local function": """
        await db()
        def answer(res):
            res.write_status(200)
            res.end("x")
        res.cork(answer)
    """,
    "cork_end, cork_send and render": """
        await db()
        if await db():
            res.cork_end("x")
        elif req:
            res.cork_send("x", status=201)
        else:
            res.render("page.html")
    """,
    "what writes nothing": """
        await db()
        res.set_cookie("a", "b")
        res.on_aborted(lambda res: None)
        res.aborted and print(res.sends)
    """,
    "an await in one branch": """
        if req:
            await db()
        res.end("x")  # !
    """,
    "an await in a branch that returns": """
        if req:
            await db()
            return
        res.end("x")
    """,
    "an await in a branch that raises": """
        if req:
            await db()
            raise ValueError
        res.end("x")
    """,
    "both branches write": """
        if req:
            await db()
            res.end("x")  # !
        else:
            res.end("y")
    """,
    "an await in the argument comes first": """
        res.end(await db())  # !
    """,
    "an await in the condition": """
        if await db():
            res.end("x")  # !
    """,
    "async for": """
        async for part in parts():
            res.write(part)  # !
        res.end()  # !
    """,
    "a loop that waits at its end": """
        for part in range(3):
            res.write("x")  # !
            await db()
    """,
    "a loop that does not wait": """
        for part in range(3):
            res.write("x")
        await db()
    """,
    "while with an await in its test": """
        while await db():
            res.write("x")  # !
    """,
    "async with": """
        async with session() as s:
            res.end("x")  # !
    """,
    "after async with": """
        async with session() as s:
            pass
        res.end("x")  # !
    """,
    "an async comprehension": """
        rows = [row async for row in db()]
        res.json(rows)  # !
    """,
    "a lambda that nobody calls here is no await": """
        later = lambda: db()
        res.end("x")
    """,
    "try": """
        try:
            await db()
        except ValueError:
            res.end("x")  # !
        finally:
            res.end("y")  # !
    """,
    "match": """
        match req:
            case 1:
                await db()
            case _:
                pass
        res.end("x")  # !
    """,
    "a nested coroutine function that is not called": """
        async def other():
            await db()
        res.end("x")
    """,
    "a nested coroutine function that is awaited": """
        async def other():
            await db()
            res.end("x")  # !
        await other()
    """,
    "a nested function called before any wait": """
        def answer():
            res.end("x")
        answer()
        await db()
    """,
    "a nested function called after a wait": """
        def answer():
            res.end("x")  # !
        await db()
        answer()
    """,
    "a nested function called in a corked block": """
        def answer():
            res.end("x")
        await db()
        with res.corked():
            answer()
    """,
    "a lambda given to the loop": """
        loop.call_soon(lambda: res.end("x"))  # !
    """,
    "a function given to the loop": """
        def later():
            res.write_status(200)  # !
            res.end("x")
        loop.call_later(1, later)
    """,
    "a corked function given to the loop": """
        def later():
            with res.corked():
                res.write_status(200)
                res.end("x")
        loop.call_later(1, later)
    """,
    "a done-callback": """
        future.add_done_callback(lambda done: res.end(done.result()))  # !
    """,
    "a subscription": """
        await channel.subscribe(news=lambda message: res.end(message))  # !
    """,
    "a lambda that corks": """
        loop.call_soon(lambda: res.cork(lambda r: r.end("x")))
    """,
    "callbacks of the response, which run corked": """
        res.on_data(lambda res, chunk, last: res.end(chunk))
        res.on_writable(lambda res, offset: res.write("x"))
    """,
    "functions that are called at once": """
        list(map(lambda part: res.write(part), "abc"))
    """,
    "a task of its own": """
        async def child():
            res.end("x")  # !
        asyncio.create_task(child())
    """,
    "gather makes tasks": """
        async def child():
            res.end("x")  # !
        await asyncio.gather(child(), db())
    """,
    "a helper that writes": """
        await db()
        answer(res)  # !
    """,
    "a helper that writes, corked": """
        await db()
        with res.corked():
            answer(res)
        res.cork(answer)
    """,
    "a helper before any wait": """
        answer(res)
        await db()
    """,
    "a helper coroutine as a task": """
        asyncio.create_task(late(res))
    """,
    "another response": """
        await db()
        other.end("x")
    """,
}
HELPERS = """
def answer(res):
    res.write_status(200)
    res.end("x")

async def late(res):
    with res.corked():
        res.end("x")
"""


def found_in(source: str, tmp_path: Path, everything: bool = False) -> list[int]:
    path = tmp_path / "module.py"
    path.write_text(source)
    return [finding.line for finding in lint(_read(path), everything)]


def marked(source: str) -> list[int]:
    return [number for number, line in enumerate(source.splitlines(), 1) if "# !" in line]


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str, tmp_path: Path) -> None:
    body = BODIES[name].rstrip().replace("\n        ", "\n    ")
    source = f'{HEAD}{HELPERS}\n@app.get("/")\nasync def handler(res, req):{body}\n'
    ast.parse(source)
    assert found_in(source, tmp_path) == marked(source)


# Whole modules, each in one line of source that is not cut.
# ruff: noqa: E501
MODULES = {
    "an app in auto mode": "from corkbind import App\napp = App()\n@app.get('/')\nasync def f(res, req):\n    await db()\n    res.end()\n",
    "a handler added by a call": HEAD + "async def f(a, b):\n    await db()\n    a.end()  # !\napp.get('/', f)\n",
    "a handler in a chain": "from corkbind import App\nasync def f(a, b):\n    await db()\n    a.end()  # !\napp = App(cork='manual').get('/', f)\napp.post('/', f)\n",
    "a router": HEAD + "r = app.router('/x')\n@r.post('/')\nasync def f(x, y):\n    await db()\n    x.end()  # !\n",
    "a MiddlewareRouter": HEAD + "r = MiddlewareRouter(app, g)\n@r.post('/')\nasync def f(x, y):\n    await db()\n    x.end()  # !\n",
    "middleware": HEAD + "async def f(x, y, data):\n    await db()\n    x.end()  # !\napp.get('/', middleware(g, f))\n",
    "a helper by its type": HEAD + "async def f(answer: HttpResponse):\n    await db()\n    answer.end()  # !\n",
    "an error handler": HEAD + "@app.on_error\nasync def f(error, res, req):\n    await db()\n    res.end()  # !\n",
    "a lambda as handler": HEAD + "app.get('/', lambda res, req: loop.call_soon(lambda: res.end()))  # !\n",
    "a method": HEAD + "class V:\n    async def get(self, res, req):\n        await db()\n        res.end()  # !\n",
    "two apps": "from corkbind import App\na = App(cork='manual')\nb = App(cork='strict')\n@a.get('/')\nasync def f(res, req):\n    await db()\n    res.end()  # !\n@b.get('/')\nasync def g(res, req):\n    await db()\n    res.end()\n",
    "recursion": HEAD + "async def f(res):\n    await f(res)\n    res.end()  # !\n",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str, tmp_path: Path) -> None:
    assert found_in(MODULES[name], tmp_path) == marked(MODULES[name])


def test_all_modes(tmp_path: Path) -> None:
    source = MODULES["an app in auto mode"]
    assert found_in(source, tmp_path, everything=True) == [6]
    assert found_in(MODULES["two apps"], tmp_path, everything=True) == [7, 11]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shop"
    (folder / ".hidden").mkdir(parents=True)
    (folder / "server.py").write_text(HEAD)
    (folder / "orders.py").write_text(
        "from shop.server import app\n@app.get('/')\nasync def f(res, req):\n    await db()\n    res.end('x')\n"
        "@app.get('/b')\nasync def g(res, req):\n    await db()\n    res.write_status(200)\n    res.end('x')\n"
    )
    (folder / ".hidden" / "broken.py").write_text("def (")
    assert main(["lint", str(folder)]) == 1
    out, errors = capsys.readouterr()
    assert out.splitlines() == [
        f"{folder}/orders.py:5:5: res.end() after an await, outside a cork; fix: res.cork_end(...)",
        f"{folder}/orders.py:9:5: writes to res in lines 9 to 10 after an await, outside a cork; fix: with res.corked():",
    ]
    assert errors == "2 places found\n"
    assert main(["lint", str(folder / "server.py")]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(tmp_path / "none.py")]) == 2
    assert "none.py" in capsys.readouterr().err
    broken = tmp_path / "broken.py"
    broken.write_text("def (")
    assert main(["lint", str(broken)]) == 2
    assert "broken.py" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lint", "--help"])
    assert ended.value.code == 0
    assert "--all" in capsys.readouterr().out
    shown = subprocess.run([sys.executable, "-m", "corkbind", "--help"], capture_output=True, text=True, check=True).stdout
    assert "corkbind lint" in re.sub(r"\s+", " ", shown)


def test_corkbind_itself_can_be_read() -> None:
    """Every construct of a real code base is walked; what is found there is not the question."""
    for path in (Path(__file__).resolve().parents[2] / "corkbind").rglob("*.py"):
        module: Module = _read(path)
        list(lint(module, everything=True))
