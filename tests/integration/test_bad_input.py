"""Give what cannot be: applications, clients and command lines do."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from harness import SECONDS, Stream, canary, environment, make_app, request

from corkbind import (
    HttpRequest,
    HttpResponse,
)

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
Deed = Callable[[HttpResponse], object]

# -- What the application gives --

INJECTIONS: dict[str, Deed] = {
    "field": lambda res: res.write_header("X", "a\r\nX-Injected: yes"),
    "field of bytes": lambda res: res.write_header(b"X", b"a\r\nX-Injected: yes"),
    "field with a line feed": lambda res: res.write_header("X", "a\nX-Injected: yes"),
    "field with a NUL": lambda res: res.write_header("X", "a\x00"),
    "field with DEL": lambda res: res.write_header("X", "a\x7f"),
    "name": lambda res: res.write_header("X: a\r\nX-Injected", "yes"),
    "empty name": lambda res: res.write_header("", "a"),
    "name with a space": lambda res: res.write_header("X ", "a"),
    "status": lambda res: res.write_status("200 OK\r\nX-Injected: yes"),
    "status number": lambda res: res.write_status(1000),
    "interim status": lambda res: res.write_status(101),
    "cookie": lambda res: res.set_cookie("a", "b\r\nX-Injected: yes"),
    "cookie path": lambda res: res.set_cookie("a", "b", path="/\r\nX-Injected: yes"),
    "redirection": lambda res: res.redirect("/\r\nX-Injected: yes"),
    "type": lambda res: res.send("x", content_type="text/plain\r\nX-Injected: yes"),
    "fields": lambda res: res.send("x", headers={"X": "a\r\nX-Injected: yes"}),
    "outside latin-1": lambda res: res.write_header("X", "\u20ac"),
    "framing": lambda res: res.write_header("Transfer-Encoding", "chunked"),
    "two lengths": lambda res: res.write_header("Content-Length", 1).write_header("Content-Length", 1),
    "a wrong length": lambda res: res.write_header("Content-Length", 5).end("four"),
}


@pytest.mark.parametrize("kind", INJECTIONS)
def test_injections_are_refused_before_any_byte(in_loop: Talk, kind: str) -> None:
    app = make_app()
    refused: list[BaseException] = []

    @app.get("/caught")
    def caught(res: HttpResponse, req: HttpRequest) -> None:
        try:
            INJECTIONS[kind](res)
        except ValueError as error:
            refused.append(error)
        if kind not in ("two lengths", "a wrong length"):
            res.end("fine")
        else:
            res.end("x" if kind == "two lengths" else "fives")

    @app.get("/uncaught")
    async def uncaught(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        INJECTIONS[kind](res)

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request("/caught"))
            response = await client.receive()
            assert response.status == 200
            assert set(response.headers) <= {"date", "content-length", "content-type"}
            response = await client.ask("/uncaught")
            assert (response.status, response.body) == (500, b"Internal Server Error")
            assert set(response.headers) == {"date", "content-length", "content-type"}
            assert (await client.ask("/canary")).body == b"alive"
            await client.close()

    in_loop(main)
    assert len(refused) == 1


# -- What the client gives --

MALFORMED = {
    b"GET /\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 505,
    b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n": 400,
    b"GET / HTTP/1.1\nHost: a\n\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\nContent-Length: 1\r\n\r\n": 417,
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n": 414,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000 + b"\r\n\r\n": 431,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"b" * 2_000_000: 413,
}


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:48]))
def test_malformed_requests(in_loop: Talk, data: bytes) -> None:
    app = make_app()
    ran: list[str] = []
    app.any("/*", lambda res, req: (ran.append(req.get_url()), res.end("ran")))

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(data + request("/smuggled"))
            response = await client.receive()
            assert (response.status, response.headers["connection"]) == (MALFORMED[data], "close")
            assert await client.rest() == b""
            await client.close()
            await canary(app, address.port)

    in_loop(main)
    assert not ran


def test_malformed_behind_a_good_one(in_loop: Talk) -> None:
    app = make_app()

    @app.get("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.001)
        res.end("late")

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request("/late") + b"nonsense\r\n\r\n" + request("/canary"))
            assert (await client.receive()).body == b"late"
            assert (await client.receive()).status == 400
            assert await client.rest() == b""
            await client.close()

    in_loop(main)


# -- The API and the command --


def test_addresses_that_cannot_be(in_loop: Talk) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            app = make_app()
            for where, number in (
                ({"port": taken.getsockname()[1], "host": "127.0.0.1"}, "EADDRINUSE"),
                ({"port": 0, "host": "192.0.2.1"}, "EADDRNOTAVAIL"),
            ):
                with pytest.raises(OSError, match="cannot listen on") as caught:
                    app.listen(where)
                assert errno.errorcode[caught.value.errno] == number
            with pytest.raises(OSError, match="no such host"):
                app.listen({"port": 0, "host": "no such host"})
            app.close()

    in_loop(main)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no_module_of_this_name:app"],
        ["os:no_app"],
        ["os:path"],
        ["app_rich:app", "--host", "192.0.2.1"],
        ["app_rich:app", "--port", "TAKEN"],
        ["app_rich:app", "--uds", "/no/such/folder/socket"],
    ],
)
def test_the_command_fails_in_one_line(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        real = [str(taken.getsockname()[1]) if argument == "TAKEN" else argument for argument in arguments]
        command = [sys.executable, "-m", "corkbind", *real]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("corkbind: ")
    assert done.stderr.count("\n") == 1, done.stderr
