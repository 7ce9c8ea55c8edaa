"""An extension in C on the loop of an app: its routes, its polls and sockets, and handles that are wrong."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import building
import pytest
from harness import HERE, SANITIZED, Peer, Server, Stream, request, tool, tool_environment, until
from tls_material import Material

import corkbind
from corkbind import App, serving
from corkbind._ffi.constants import CK_ABI_VERSION, CK_EXPIRED, CK_THREAD

SOURCE = HERE / "cext" / "plain.c"
#: What a program needs to link the library where that has sanitizers.
SANITIZER = ["-fsanitize=address,undefined"] if SANITIZED else []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return building.load(building.extension(SOURCE, tmp_path_factory.mktemp("plain")))


def served(plain: ModuleType, conversation: Callable[[App, int], Awaitable[Any]], run: Callable[..., Any] = asyncio.run) -> App:
    """Let a conversation run with an app that the extension has routes on."""
    app = App()
    app.get("/python", lambda res, req: res.end("from Python"))
    plain.serve(app.native_handle)

    async def main() -> None:
        async with app.serving(grace=5) as address:
            await conversation(app, address.port)

    run(main())
    return app


def test_a_route_in_c(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        client = await Stream.open(port)
        client.send(request("/c?you") + request("/python") + request("/c?me"))
        answers = [await client.receive() for _ in range(3)]
        assert [answer.body for answer in answers] == [b"Hello, you", b"from Python", b"Hello, me"]
        assert (answers[0].status, answers[0].headers["x-from"]) == (201, "C")
        assert app.stats()["sends"] == 1
        rows = {row["path"]: row for row in app.route_stats()}
        assert rows["/c"]["method"] == "GET"
        assert (rows["/c"]["requests"], rows["/python"]["requests"], rows["/echo"]["method"]) == (2, 1, "*")
        await client.close()

    served(plain, conversation)


def test_routes_of_both_kinds_are_counted_in_the_order_of_adding(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        app.get("/after", lambda res, req: res.end("after"))
        client = await Stream.open(port)
        for path, times in (("/python", 1), ("/c", 2), ("/after", 3)):
            for _ in range(times):
                await client.ask(path)
        counted = {row["path"]: row["requests"] for row in app.route_stats()}
        assert counted == {"/python": 1, "/c": 2, "/after": 3, "/wait": 0, "/echo": 0, "/relay/:port": 0, "": 0}
        assert app.route_stats(match="* /echo")[0]["method"] == "*"
        await client.close()

    served(plain, conversation)


def test_under_uvloop(plain: ModuleType) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def conversation(app: App, port: int) -> None:
        client = (await Stream.open(port)).send(request("/wait"))
        await until(lambda: plain.counts()["waiting"] == 1)
        plain.ring()
        assert (await client.receive()).body == b"from the pipe"
        assert app.stats()["sends"] == 1
        await client.close()

    served(plain, conversation, uvloop.run)


def test_over_tls(plain: ModuleType, tmp_path: Path) -> None:
    material = Material(tmp_path)
    app = App(material.options())
    plain.serve(app.native_handle)

    async def main() -> None:
        async with app.serving(grace=5) as address:
            trust = ssl.create_default_context(cafile=str(material.ca))
            reader, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=trust, server_hostname="localhost")
            client = Stream(reader, writer).send(request("/wait"))
            await until(lambda: plain.counts()["waiting"] == 1)
            before = app.stats()["sends"]
            plain.ring()
            assert (await client.receive()).body == b"from the pipe"
            stats = app.stats()
            assert (stats["tls_records"], stats["sends"] - before) == (1, 1)
            await client.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("how", "text"), [("ring", b"from the pipe"), ("ring_by_timer", b"from the timer"), ("answer_now", b"from the outside")]
)
def test_many_answered_by_one_callback_take_one_send_each(plain: ModuleType, how: str, text: bytes) -> None:
    async def conversation(app: App, port: int) -> None:
        clients = [(await Stream.open(port)).send(request("/wait")) for _ in range(20)]
        await until(lambda: plain.counts()["waiting"] == 20)
        getattr(plain, how)()
        assert {(await client.receive()).body for client in clients} == {text}
        stats = app.stats()
        assert (stats["sends"], stats["responses"], stats["flushes"]["iteration"]) == (20, 20, 20)
        for client in clients:
            await client.close()

    served(plain, conversation)


def test_a_client_that_goes_is_told_of(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        before = plain.counts()["aborted"]
        client = (await Stream.open(port)).send(request("/wait"))
        await until(lambda: plain.counts()["waiting"] == 1)
        handle = plain.waiting()
        await client.reset()
        await until(lambda: plain.counts()["waiting"] == 0)
        assert plain.counts()["aborted"] == before + 1
        assert set(plain.refusals(handle)) == {CK_EXPIRED}
        plain.ring()

    served(plain, conversation)


def test_bodies(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        client = await Stream.open(port)
        assert (await client.ask("/echo", "POST", b"a" * 300_000)).body == b"a" * 300_000
        assert (await client.ask("/echo", "POST", b"")).body == b""
        client.send(request("/echo", "PUT", b"whole at once"))
        assert (await client.receive()).body == b"whole at once"
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbroken")
        before = plain.counts()["aborted"]
        await until(lambda: app.stats()["requests"] == 4)
        await client.reset()
        await until(lambda: app.stats()["open"] == 0)
        assert plain.counts()["aborted"] == before, "its body had told the end, and it was let go"

    served(plain, conversation)


def test_a_socket_of_its_own(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readline() == b"what?\n"
            writer.write(b"forty-two")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(other, "127.0.0.1", 0)
        there = server.sockets[0].getsockname()[1]
        client = await Stream.open(port)
        assert (await client.ask(f"/relay/{there}")).body == b"it said forty-two"
        server.close()
        await server.wait_closed()
        assert (await client.ask(f"/relay/{there}")).status == 502
        assert app.stats()["sends"] == 2
        await client.close()

    served(plain, conversation)


def test_the_end_of_the_app_is_told_and_a_later_one_is_another(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        client = (await Stream.open(port)).send(request("/wait"))
        await until(lambda: plain.counts()["waiting"] == 1)
        app.close()
        await client.rest()
        await client.close()

    before = plain.counts()
    app = served(plain, conversation)
    assert plain.counts() == {"waiting": 0, "aborted": before["aborted"] + 1, "ended": before["ended"] + 1}
    first = app.native_handle
    app.close()
    assert app.native_handle != first
    app.close()
    assert plain.counts()["ended"] == before["ended"] + 1, "nobody has added it to these"


def test_a_stop_waits_for_what_c_keeps_until_it_is_cut_short(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        clients = [(await Stream.open(port)).send(request("/wait")) for _ in range(2)]
        await until(lambda: plain.counts()["waiting"] == 2)
        stopping = asyncio.create_task(app.stop(grace=1000))
        await until(lambda: not app.listening)
        plain.ring()
        assert [(await client.receive()).body for client in clients] == [b"from the pipe"] * 2
        for client in clients:
            await client.close()
        await stopping

    served(plain, conversation)

    async def cut(app: App, port: int) -> None:
        client = (await Stream.open(port)).send(request("/wait"))
        await until(lambda: plain.counts()["waiting"] == 1)
        stopping = asyncio.create_task(app.stop(grace=1000))
        await until(lambda: not app.listening)
        assert not stopping.done()
        serving.abort(app)
        for _ in range(10):
            await asyncio.sleep(0)
        assert stopping.done()
        assert await client.rest() == b""
        await client.close()

    served(plain, cut)


def test_handles_that_are_wrong(plain: ModuleType) -> None:
    app = App()
    handle = app.native_handle
    for wrong in (0, 1, handle ^ 1, handle ^ 0x40000, 0xFFFFFFFF):
        assert set(plain.refusals(wrong)) == {CK_EXPIRED}, wrong
    app.close()
    assert set(plain.refusals(handle)) == {CK_EXPIRED}
    with pytest.raises(ValueError, match=f"no app: {CK_EXPIRED}"):
        plain.serve(handle)


def test_another_thread(plain: ModuleType) -> None:
    async def conversation(app: App, port: int) -> None:
        client = (await Stream.open(port)).send(request("/wait"))
        await until(lambda: plain.counts()["waiting"] == 1)
        exchange, handle = plain.waiting(), app.native_handle
        said: list[list[int]] = []
        errors: list[BaseException] = []

        def elsewhere() -> None:
            said.extend([plain.refusals(exchange), plain.refusals(handle)])
            for call in (lambda: plain.serve(handle), lambda: app.native_handle):
                try:
                    call()
                except Exception as error:
                    errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert [set(results) for results in said] == [{CK_THREAD}] * 2
        assert [type(error) for error in errors] == [ValueError, corkbind.WrongThread]
        plain.ring()
        assert (await client.receive()).body == b"from the pipe", "nothing of that did any harm"
        await client.close()

    served(plain, conversation)


# -- The capsule --


def headers_with(folder: Path, name: str, old: str, new: str) -> str:
    """Copy the headers with one of them changed."""
    include = shutil.copytree(corkbind.get_include(), folder / "include")
    text = (include / name).read_text()
    assert text.count(old) == 1
    (include / name).write_text(text.replace(old, new))
    return str(include)


def test_another_abi_is_refused_with_both_numbers(tmp_path: Path) -> None:
    other = CK_ABI_VERSION + 41
    include = headers_with(tmp_path, "corkbind.h", f"CK_ABI_VERSION = {CK_ABI_VERSION}", f"CK_ABI_VERSION = {other}")
    compiled = building.extension(SOURCE, tmp_path, include)
    with pytest.raises(ImportError, match=rf"compiled for ABI version {other} .* has version {CK_ABI_VERSION}:"):
        building.load(compiled)


def test_a_shorter_table_is_refused_with_both_sizes(tmp_path: Path) -> None:
    include = headers_with(
        tmp_path, "corkbind_api.h", "#define CK_API(ENTRY) \\", "#define CK_API(ENTRY) ENTRY(ck_end) ENTRY2 \\"
    )
    text = (Path(include) / "corkbind_api.h").read_text()
    extra = "__attribute__((unused)) static int ck_yet_to_come(void) { return 0; }\n/* Every function in the table"
    text = text.replace("ENTRY(ck_end) ENTRY2 \\", "ENTRY(ck_yet_to_come) \\").replace("/* Every function in the table", extra)
    (Path(include) / "corkbind_api.h").write_text(text)
    compiled = building.extension(SOURCE, tmp_path, include)
    with pytest.raises(ImportError, match=r"table of functions has (\d+) bytes, and .* has (\d+):") as refused:
        building.load(compiled)
    wanted, found = map(int, re.findall(r"has (\d+)", str(refused.value)))
    assert wanted == found + 8


def test_a_corkbind_without_a_capsule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = building.extension(SOURCE, tmp_path)
    monkeypatch.delattr(corkbind, "_C_API")
    with pytest.raises(ImportError, match="too old for this extension"):
        building.load(compiled)


@pytest.mark.parametrize("cc", ["g++", "clang++"])
def test_an_extension_in_cplusplus(tmp_path: Path, cc: str) -> None:
    module = building.load(building.extension(HERE / "cext" / "cplusplus.cpp", tmp_path, cc=cc))

    async def conversation(app: App, port: int) -> None:
        client = await Stream.open(port)
        assert (await client.ask("/cplusplus")).body == b"from C++"
        await client.close()

    served(module, conversation)


def test_clang_has_nothing_to_say_of_the_headers(tmp_path: Path) -> None:
    assert building.extension(SOURCE, tmp_path, cc="clang").exists()


# -- Without Python --


def test_a_program_in_c(tmp_path: Path) -> None:
    program = tmp_path / "server"
    building.run(building.compiler(), "-std=c11", "-D_GNU_SOURCE", *building.WARNINGS, *corkbind.get_cflags(), *SANITIZER,
                 HERE / "cext" / "server.c", "-o", program, *corkbind.get_ldflags())  # fmt: skip
    errors = tmp_path / "errors"
    plain = tool_environment()
    with errors.open("wb") as sink, subprocess.Popen([program], stdout=subprocess.PIPE, stderr=sink, env=plain) as process:
        try:
            assert process.stdout is not None
            server = Server(process, int(process.stdout.readline().rpartition(b":")[2]), errors)
            with Peer(server.port) as peer:
                assert peer.ask("/hello/you").body == b"Hello, you"
                assert peer.ask("/echo", "POST", b"x" * 100_000).body == b"x" * 100_000
                assert peer.ask("/none").status == 404
            assert server.stop() == 0
            assert server.errors == ""
        finally:
            process.kill()


def test_pkg_config_is_enough_to_link(tmp_path: Path) -> None:
    environment = {**tool_environment(), "PKG_CONFIG_PATH": corkbind.get_pkgconfig_dir()}
    command = [tool("pkg-config"), "--cflags", "--libs", "corkbind"]
    flags = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    building.run(building.compiler(), "-std=c11", "-D_GNU_SOURCE", HERE / "cext" / "server.c", "-o", tmp_path / "server", *flags)
