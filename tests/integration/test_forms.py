"""Read forms from real clients, and from ones that mean no good."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from harness import tool, tool_environment, until

from corkbind import (
    App,
    BodyIncomplete,
    BodyInUse,
    BodyTooLarge,
    CorkbindError,
    FormData,
    HttpRequest,
    HttpResponse,
    Limits,
    MultipartLimits,
    UploadedFile,
)

Talk = Callable[..., Any]
TYPE = "Content-Type: multipart/form-data; boundary=B\r\n"


def part(name: str, content: bytes, filename: str | None = None, more: str = "") -> bytes:
    disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
    return f"--B\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def summing_app(limits: MultipartLimits | None = None, **options: Any) -> App:
    """Return an app that answers with what each part held."""
    app = App(**options)

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        seen = []
        async for one in res.multipart(limits or MultipartLimits()):
            size = 0
            async for chunk in one:
                assert chunk
                size += len(chunk)
            seen.append([one.name, one.filename, one.content_type, size])
        res.json(seen)

    return app


# -- Part by part --


def test_fields_and_files(talk: Talk) -> None:
    body = form(
        part("title", b"Report"),
        part("file", b"\r\n-B not quite\r\n" * 10, "a.txt", "Content-Type: text/x-mine\r\n"),
        part("empty", b""),
        part("none chosen", b"", "", "Content-Type: application/octet-stream\r\n"),
    )

    async def conversation(client: Any) -> None:
        answer = await client.ask("/", "POST", body, TYPE)
        assert answer.status == 200
        assert answer.body == (
            b'[["title",null,"text/plain",6],["file","a.txt","text/x-mine",160],'
            b'["empty",null,"text/plain",0],["none chosen","","application/octet-stream",0]]'
        )

    talk(summing_app(), conversation)


def test_every_split_of_the_bytes_is_the_same_form(in_loop: Callable[..., Any]) -> None:
    body = form(part("a", b"one\r\n-"), part("b", b"two\r\n--", "f"))
    head = f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{TYPE}\r\n".encode()
    app = summing_app()

    async def main() -> None:
        async with app.serving() as address:
            answers = set()
            for at in range(len(body)):
                reader, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(head + body[:at])
                await asyncio.sleep(0)
                writer.write(body[at:])
                answers.add((await reader.read()).partition(b"\r\n\r\n")[2])
                writer.close()
                await writer.wait_closed()
            assert answers == {b'[["a",null,"text/plain",6],["b","f","text/plain",7]]'}

    in_loop(main)


def test_parts_that_nobody_reads_are_passed_over(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        names = []
        async for one in res.multipart():
            names.append(one.name)
            if one.name == "b":
                async for _ in one:
                    break  # and not to its end
        res.json(names)

    async def conversation(client: Any) -> None:
        body = form(part("a", b"x" * 200_000), part("b", b"y" * 200_000), part("c", b"z"))
        assert (await client.ask("/", "POST", body, TYPE)).body == b'["a","b","c"]'

    talk(app, conversation)


def test_a_part_cannot_be_read_after_the_next(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        parts = [one async for one in res.multipart()]
        assert await parts[0].read() == b""  # it has been passed over
        res.end(str(len(parts)))

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", form(part("a", b"x"), part("b", b"y")), TYPE)).body == b"2"

    talk(app, conversation)


def test_an_upload_is_read_at_the_pace_of_the_handler(talk: Talk) -> None:
    app = App(limits=Limits(body=64 << 20))
    go, begun = asyncio.Event(), asyncio.Event()
    size = 32 << 20

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        total = 0
        async for one in res.multipart(MultipartLimits(file=64 << 20)):
            async for chunk in one:
                total += len(chunk)
                begun.set()
                await go.wait()
        res.end(str(total))

    async def conversation(client: Any) -> None:
        body = form(part("f", bytes(size), "f"))
        head = f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{TYPE}\r\n".encode()
        connection = socket.create_connection((client.address.host, client.address.port), timeout=10)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(connection, head + body))
        await begun.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not sending.done()  # the kernels' buffers are full: nobody reads
        go.set()
        await sending
        raw = b""
        while chunk := await loop.sock_recv(connection, 65536):
            raw += chunk
        connection.close()
        assert raw.endswith(str(size).encode())

    talk(app, conversation)


def test_names_and_file_names(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.json([[one.name, one.filename] async for one in res.multipart()])

    async def conversation(client: Any) -> None:
        for sent, seen in {
            'name="a"; filename="C:\\Users\\me\\report.doc"': ["a", "report.doc"],
            'name="a"; filename="../../etc/passwd"': ["a", "passwd"],
            'name="a"; filename=".."': ["a", ""],
            'name="a"; filename="b/."': ["a", ""],
            'name="a"; filename="say %22hi%22.txt"': ["a", 'say "hi".txt'],
            'name="a"; filename="say \\"hi\\".txt"': ["a", 'say "hi".txt'],
            'name="a;b=c"; filename="x; name=y"': ["a;b=c", "x; name=y"],
            'name=a; filename="é日.txt"': ["a", "é日.txt"],
            "name=a ; FILENAME=b.txt": ["a", "b.txt"],
            'name="first"; name="second"': ["first", None],
            'name="open': ["open", None],
        }.items():
            body = f"--B\r\nContent-Disposition: form-data; {sent}\r\n\r\nx\r\n".encode() + b"--B--\r\n"
            answer = await client.ask("/", "POST", body, TYPE)
            assert json.loads(answer.body) == [seen]

    talk(app, conversation)


# -- What is refused --

MALFORMED = {
    "no boundary at all": b"nothing here",
    "ends in the head of a part": b'--B\r\nContent-Disposition: form-data; name="a"\r\n',
    "ends in a part": b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nbytes',
    "ends without the last boundary": b"".join([part("a", b"x")]),
    "a part without a disposition": b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n",
    "a part without a name": b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n",
    "an attachment": b'--B\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--B--\r\n',
    "a bad field name": b"--B\r\nContent Disposition: x\r\n\r\nx\r\n--B--\r\n",
    "a field without a colon": b"--B\r\nContent-Disposition\r\n\r\nx\r\n--B--\r\n",
    "a bare line feed": b'--B\nContent-Disposition: form-data; name="a"\n\nx\n--B--\n',
    "a field twice": part("a", b"x", None, 'Content-Disposition: form-data; name="b"\r\n') + b"--B--\r\n",
    "17 fields": part("a", b"x", None, "".join(f"X-{n}: y\r\n" for n in range(16))) + b"--B--\r\n",
    "a long head": part("a", b"x", None, f"X-Long: {'y' * 9000}\r\n") + b"--B--\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_form_is_a_400(talk: Talk, name: str) -> None:
    async def conversation(client: Any) -> None:
        answer = await client.ask("/", "POST", MALFORMED[name], TYPE)
        assert (answer.status, answer.body) == (400, b"Bad Request")

    talk(summing_app(), conversation)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/form-data\r\n",
        "Content-Type: multipart/form-data; boundary=\r\n",
        f"Content-Type: multipart/form-data; boundary={'b' * 71}\r\n",
        "Content-Type: multipart/mixed; boundary=B\r\n",
        "Content-Type: ;\r\n",
    ],
)
def test_what_is_no_multipart_is_a_400(talk: Talk, kind: str) -> None:
    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", form(part("a", b"x")), kind)).status == 400

    talk(summing_app(), conversation)


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        (MultipartLimits(parts=2), form(*[part("a", b"x")] * 3)),
        (MultipartLimits(field=10), form(part("a", b"x" * 11))),
        (MultipartLimits(file=10), form(part("a", b"x" * 11, "f"))),
        (MultipartLimits(total=100), form(part("a", b"x" * 100))),
    ],
)
def test_limits_are_a_413(talk: Talk, limits: MultipartLimits, body: bytes) -> None:
    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", body, TYPE)).status == 413

    talk(summing_app(limits), conversation)


def test_just_within_the_limits(talk: Talk) -> None:
    body = form(part("a", b"x" * 10), part("b", b"y" * 20, "f"))
    limits = MultipartLimits(parts=2, field=10, file=20, total=len(body))

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", body, TYPE)).status == 200

    talk(summing_app(limits), conversation)


def test_reading_a_whole_file_is_bounded_by_the_field_limit(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async for one in res.multipart(MultipartLimits(field=10)):
            with pytest.raises(BodyTooLarge, match="async for chunk"):
                await one.read()
        res.end("refused")

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", form(part("a", b"x" * 11, "f")), TYPE)).body == b"refused"

    talk(app, conversation)


def test_a_client_that_stops_inside_its_form(talk: Talk) -> None:
    app = App()
    errors: list[str] = []

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            async for one in res.multipart():
                errors.append(one.name)
                await one.read()
        except BodyIncomplete as error:
            errors.append(str(error))

    async def conversation(client: Any) -> None:
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n{TYPE}\r\n".encode()
        await client.reset(head + part("a", b"x" * 100)[:-2])
        await until(lambda: len(errors) == 2)
        assert errors == ["a", "the client left before its request body was complete"]

    talk(app, conversation)


# CVE-2024-30251: a parser that makes no progress. CVE-2024-53981: work for every byte that
# stands outside the parts. CVE-2024-24762: a Content-Type that takes for ever. In each the
# work must grow with the bytes and no faster; a quadratic one would not end within the test.
HOSTILE = {
    "bytes before the first boundary": (TYPE, b"\r\n" * 400_000),
    "bytes after the last boundary": (TYPE, form(part("a", b"x")) + b"\r\n" * 400_000),
    "beginnings of boundaries": (TYPE, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"\r\n--\r\r\n-" * 100_000),
    "carriage returns": (TYPE, b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"\r" * 800_000),
    "boundaries only": (TYPE, b"--B\r\n" * 100_000),
    "a Content-Type of escapes": ("Content-Type: multipart/form-data; !=" + '"' + "\\" * 15_000 + "\r\n", b"x"),
    "a Content-Type of parameters": ("Content-Type: multipart/form-data;" + "a=;" * 5_000 + "\r\n", b"x"),
    "a disposition of escapes": (
        TYPE,
        b'--B\r\nContent-Disposition: form-data; name="' + b'\\"' * 4_000 + b"\r\n\r\nx\r\n--B--\r\n",
    ),
    "many empty parts": (TYPE, form(*[part("a", b"")] * 999)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_form_takes_for_ever(talk: Talk, name: str) -> None:
    fields, body = HOSTILE[name]

    async def conversation(client: Any) -> None:
        answer = await client.ask("/", "POST", body, fields)
        assert answer.status in (200, 400, 413)

    talk(summing_app(), conversation)


# -- Whole forms --


def form_app() -> App:
    app = App(limits=Limits(body=16 << 20))

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with await res.get_form_data() as data:
            assert isinstance(data, FormData)
            res.json(
                {
                    name: [
                        [value.filename, value.content_type, value.size, len(value.file.read())]
                        if isinstance(value, UploadedFile)
                        else value
                        for value in data.get_all(name)
                    ]
                    for name in data
                }
            )

    return app


def test_requests_and_curl_send_forms(talk: Talk, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(3 << 20))
    curl = tool("curl")

    def ask(url: str) -> None:
        with requests.Session() as session, open(large, "rb") as file:
            answer = session.post(url, data={"a": ["1", "2"]}, files={"f": ("x.txt", b"text"), "g": file}, timeout=10)
        assert answer.json() == {
            "a": ["1", "2"],
            "f": [["x.txt", "text/plain", 4, 4]],
            "g": [["large.bin", "text/plain", 3 << 20, 3 << 20]],
        }
        with requests.Session() as session:
            assert session.post(url, data={"a": "é", "b": ""}, timeout=10).json() == {"a": ["é"], "b": [""]}
        command = [curl, "-sS", "-F", "a=one", "-F", f"f=@{large};type=image/png;filename=p.png", url]
        done = subprocess.run(command, capture_output=True, env=tool_environment(), timeout=20)
        assert done.stdout == b'{"a":["one"],"f":[["p.png","image/png",3145728,3145728]]}', done

    async def conversation(client: Any) -> None:
        await asyncio.to_thread(ask, client.address.url + "/")

    talk(form_app(), conversation)


def test_the_files_of_a_form_are_closed(talk: Talk) -> None:
    app = App()
    files: list[UploadedFile] = []

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with await res.get_form_data() as data:
            value = data["f"]
            assert isinstance(value, UploadedFile)
            assert "f" in data
            assert len(data) == 1
            assert data.get("none") is None
            assert data.get_all("none") == []
            files.append(value)
            assert not value.file.closed
        res.end("done")

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", form(part("f", b"x", "f")), TYPE)).body == b"done"
        assert files[0].file.closed

    talk(app, conversation)


def test_a_form_is_bad_or_not_there(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await res.get_form_data()

    async def conversation(client: Any) -> None:
        for body, fields in ((b"{}", "Content-Type: application/json\r\n"), (form(part("a", b"\xff")), TYPE), (b"--B", TYPE)):
            assert (await client.ask("/", "POST", body, fields)).status == 400

    talk(app, conversation)


def test_without_python_multipart(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart.multipart", None)
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        with pytest.raises(CorkbindError, match=r"pip install 'corkbind\[forms\]'"):
            res.multipart()
        with pytest.raises(CorkbindError, match="python-multipart"):
            await res.get_form_data()
        assert await res.get_form_urlencoded() == {}
        res.end("told")

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", b"", TYPE)).body == b"told"

    talk(app, conversation)


# -- Chunks of a body --


def test_chunks_of_a_body(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        content = b"".join([chunk async for chunk in res.chunks()])
        res.end(content)

    async def conversation(client: Any) -> None:
        for body in (b"", b"x", bytes(range(256)) * 2000):
            assert (await client.ask("/", "POST", body)).body == body

    talk(app, conversation)


def test_a_body_that_is_too_large(talk: Talk) -> None:
    app = App(limits=Limits(body=10))

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end(b"".join([chunk async for chunk in res.chunks()]))

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", b"x" * 10)).body == b"x" * 10
        assert (await client.ask("/", "POST", b"x" * 11)).status == 413

    talk(app, conversation)


def test_a_body_has_one_reader(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        first = res.chunks()
        assert await first.__anext__() == b"body"
        with pytest.raises(BodyInUse):
            await res.chunks().__anext__()
        with pytest.raises(BodyInUse):
            await res.get_data()
        res.end("refused")

    async def conversation(client: Any) -> None:
        assert (await client.ask("/", "POST", b"body")).body == b"refused"

    talk(app, conversation)
