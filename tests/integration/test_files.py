"""Send files: every conditional field and range, tricks with paths, and files that change."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests
from harness import tool, tool_environment, until

from corkbind import App, HttpRequest, HttpResponse, disk, files, page_cache, sendfile
from corkbind.content_types import content_type

Talk = Callable[..., Any]
CONTENT = bytes(range(256)) * 40
LARGE = 24 * 1024 * 1024


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with files, beside one with a secret."""
    root = tmp_path / "site"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "a.bin").write_bytes(CONTENT)
    (root / "page.html").write_text("<p>page</p>")
    (root / "index.html").write_text("<p>top</p>")
    (root / "sub" / "index.html").write_text("<p>sub</p>")
    (root / "empty.txt").write_bytes(b"")
    (root / ".hidden" / "x").write_text("hidden")
    (root / ".env").write_text("hidden")
    (root / "naïve file.txt").write_text("named")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site-too").mkdir()
    (tmp_path / "site-too" / "secret").write_text("secret")
    return root


@pytest.fixture(autouse=True)
def _open_afresh() -> None:
    files._recent.clear()


def served(site: Path, **options: Any) -> App:
    return App().static("/files", site, **options)


# -- One file --


def test_a_whole_file_in_one_send(talk: Talk, site: Path) -> None:
    app = served(site, cache_control="max-age=60")

    async def conversation(client: Any) -> None:
        for times in (1, 2):  # opened in a thread, and then not
            answer = await client.ask("/files/a.bin")
            assert (answer.status, answer.body, answer["content-length"]) == (200, CONTENT, str(len(CONTENT)))
            assert answer["content-type"] == "application/octet-stream"
            assert answer["accept-ranges"] == "bytes"
            assert answer["cache-control"] == "max-age=60"
            assert answer["last-modified"] == formatdate(int((site / "a.bin").stat().st_mtime), usegmt=True)
            assert answer.all("content-range") == []
            assert app.stats()["sends"] == times

    talk(app, conversation)


def test_text_has_a_charset(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/page.html"))["content-type"] == "text/html; charset=utf-8"

    talk(served(site), conversation)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.css", "text/css; charset=utf-8"),
        ("a.MJS", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.tar.gz", "application/gzip"),
        ("data:text.html", "text/html; charset=utf-8"),
        ("noextension", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("dir.html/plain", "application/octet-stream"),
    ],
)
def test_content_types(name: str, kind: str) -> None:
    assert content_type(name) == kind


def test_head_is_a_get_without_the_body(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        get, head = await client.ask("/files/a.bin"), await client.ask("/files/a.bin", "HEAD")
        assert head.body == b""
        assert [field for field in head.fields if field[0] != "date"] == [field for field in get.fields if field[0] != "date"]

    talk(served(site), conversation)


def test_an_empty_file(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        answer = await client.ask("/files/empty.txt")
        assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")
        assert (await client.ask("/files/empty.txt", headers="Range: bytes=0-\r\n")).status == 416
        assert (await client.ask("/files/empty.txt", headers="Range: bytes=-5\r\n")).status == 200

    talk(served(site), conversation)


def test_other_methods(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        answer = await client.ask("/files/a.bin", "POST")
        assert (answer.status, answer["allow"]) == (405, "GET, HEAD")

    talk(served(site), conversation)


# -- Conditions --


def test_conditions(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        first = await client.ask("/files/a.bin")
        tag, date = first["etag"], first["last-modified"]
        for headers, status in {
            f"If-None-Match: {tag}\r\n": 304,
            f"If-None-Match: W/{tag}\r\n": 304,
            "If-None-Match: *\r\n": 304,
            'If-None-Match: "other"\r\n': 200,
            f"If-Modified-Since: {date}\r\n": 304,
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n": 200,
            f'If-None-Match: "other"\r\nIf-Modified-Since: {date}\r\n': 200,
            f"If-Match: {tag}\r\n": 200,
            'If-Match: "other"\r\n': 412,
            "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n": 412,
        }.items():
            answer = await client.ask("/files/a.bin", headers=headers)
            assert answer.status == status, headers
            assert answer.body == {200: CONTENT, 304: b"", 412: b"Precondition Failed"}[status]
            if status == 304:
                assert (answer["etag"], answer["last-modified"]) == (tag, date)
                assert answer["vary"] == "Accept-Encoding"

    talk(served(site), conversation)


def test_a_changed_file_has_another_tag(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        before = (await client.ask("/files/a.bin"))["etag"]
        os.utime(site / "a.bin", ns=(1, (site / "a.bin").stat().st_mtime_ns + 1))
        answer = await client.ask("/files/a.bin", headers=f"If-None-Match: {before}\r\n")
        assert answer.status == 200
        assert answer["etag"] != before

    talk(served(site), conversation)


# -- Ranges --


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-0", 0, 0), ("100-199", 100, 199), ("10000-", 10000, 10239), ("-1", 10239, 10239), ("0-99999", 0, 10239)],
)
def test_a_range(talk: Talk, site: Path, asked: str, first: int, last: int) -> None:
    async def conversation(client: Any) -> None:
        answer = await client.ask("/files/a.bin", headers=f"Range: bytes={asked}\r\n")
        assert (answer.status, answer["content-range"]) == (206, f"bytes {first}-{last}/{len(CONTENT)}")
        assert answer.body == CONTENT[first : last + 1]
        assert answer["etag"] == (await client.ask("/files/a.bin"))["etag"]

    talk(served(site), conversation)


def test_what_is_no_single_range(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        for asked, status in {"bytes=10240-": 416, "bytes=-0": 416, "bytes=0-1,5-6": 200, "bytes=5-2": 200, "x=0-1": 200}.items():
            answer = await client.ask("/files/a.bin", headers=f"Range: {asked}\r\n")
            assert answer.status == status, asked
            if status == 416:
                assert answer["content-range"] == f"bytes */{len(CONTENT)}"
        head = await client.ask("/files/a.bin", "HEAD", headers="Range: bytes=0-1\r\n")
        assert (head.status, head["content-length"]) == (200, str(len(CONTENT)))

    talk(served(site), conversation)


def test_if_range(talk: Talk, site: Path) -> None:
    os.utime(site / "a.bin", (10**9, 10**9))

    async def conversation(client: Any) -> None:
        first = await client.ask("/files/a.bin")
        for condition, status in {
            first["etag"]: 206,
            first["last-modified"]: 206,
            '"old"': 200,
            f"W/{first['etag']}": 200,
        }.items():
            answer = await client.ask("/files/a.bin", headers=f"Range: bytes=0-9\r\nIf-Range: {condition}\r\n")
            assert (answer.status, len(answer.body)) == (status, 10 if status == 206 else len(CONTENT))

    talk(served(site), conversation)


# -- Codings --


def test_neighbours_by_accept_encoding(talk: Talk, site: Path) -> None:
    page = site / "page.html"
    (site / "page.html.gz").write_bytes(gzip.compress(page.read_bytes()))
    (site / "page.html.br").write_bytes(b"brotli")

    async def conversation(client: Any) -> None:
        for accepted, coding in {"": None, "gzip": "gzip", "gzip, br": "br", "br;q=0, gzip": "gzip", "zstd": None}.items():
            answer = await client.ask("/files/page.html", headers=f"Accept-Encoding: {accepted}\r\n" if accepted else "")
            assert answer.all("content-encoding") == ([coding] if coding else [])
            assert (answer["vary"], answer["content-type"]) == ("Accept-Encoding", "text/html; charset=utf-8")
        plain, packed = (
            await client.ask("/files/page.html"),
            await client.ask("/files/page.html", headers="Accept-Encoding: gzip\r\n"),
        )
        assert plain["etag"] != packed["etag"]
        assert gzip.decompress(packed.body) == plain.body
        direct = await client.ask("/files/page.html.gz")
        assert (direct["content-type"], direct.all("content-encoding")) == ("application/gzip", [])

    talk(served(site), conversation)


def test_an_old_neighbour_is_not_sent(talk: Talk, site: Path) -> None:
    (site / "page.html.gz").write_bytes(b"old")
    os.utime(site / "page.html.gz", (1, 1))

    async def conversation(client: Any) -> None:
        answer = await client.ask("/files/page.html", headers="Accept-Encoding: gzip\r\n")
        assert (answer.body, answer.all("content-encoding")) == (b"<p>page</p>", [])

    talk(served(site), conversation)


def test_a_neighbour_alone_is_nothing(talk: Talk, site: Path) -> None:
    (site / "gone.html.gz").write_bytes(gzip.compress(b"x"))

    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/gone.html", headers="Accept-Encoding: gzip\r\n")).status == 404

    talk(served(site), conversation)


# -- Paths --


@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/%2E./secret",
        "/..%2fsecret",
        "/..%5csecret",
        "/..\\secret",
        "/%2e%2e%2fsecret",
        "/sub/%2e%2e/%2e%2e/secret",
        "/../site-too/secret",
        "//secret",
        "/sub//index.html",
        "/./a.bin",
        "/a.bin/",
        "/a.bin/x",
        "/a.bin%00",
        "/a.bin%00.html",
        "/.env",
        "/.hidden/x",
        "/%2eenv",
        "/%252e%252e/secret",
        "/nothing",
        "/nothing/",
        "/" + "x" * 300,
        "/" + "x/" * 500,
        "/link-out",
        "/link-to-directory/secret",
        "/link-loop",
        "/pipe",
        "/%ff",
    ],
)
def test_paths_that_lead_nowhere(talk: Talk, site: Path, path: str) -> None:
    (site / "link-out").symlink_to(site.parent / "secret")
    (site / "link-to-directory").symlink_to(site.parent)
    (site / "link-loop").symlink_to(site / "link-loop")
    os.mkfifo(site / "pipe")

    async def conversation(client: Any) -> None:
        answer = await client.ask(f"/files{path}")
        assert answer.status == (400 if "\\" in path or "%00" in path else 404)  # which no target may hold
        assert b"secret" not in answer.body
        assert b"hidden" not in answer.body

    talk(served(site), conversation)


def test_paths_that_lead_somewhere(talk: Talk, site: Path) -> None:
    (site / "link-in").symlink_to(site / "page.html")
    (site / "sub" / "link-up").symlink_to("../page.html")

    async def conversation(client: Any) -> None:
        for path, body in {
            "/link-in": b"<p>page</p>",
            "/sub/link-up": b"<p>page</p>",
            "/na%C3%AFve%20file.txt": b"named",
            "/%70age.html": b"<p>page</p>",
            "/": b"<p>top</p>",
            "/sub/": b"<p>sub</p>",
            "/page.html?version=3": b"<p>page</p>",
        }.items():
            answer = await client.ask(f"/files{path}")
            assert (answer.status, answer.body) == (200, body), path

    talk(served(site), conversation)


def test_a_directory_without_its_slash(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        for path, location in {
            "/files": "/files/",
            "/files/sub": "/files/sub/",
            "/files/sub?a=b": "/files/sub/?a=b",
        }.items():
            answer = await client.ask(path)
            assert (answer.status, answer["location"]) == (308, location)

    talk(served(site), conversation)


def test_a_redirection_never_leads_to_another_host(talk: Talk, site: Path) -> None:
    (site / "evil.example").mkdir()

    async def conversation(client: Any) -> None:
        for path in ("//evil.example", "/%2fevil.example", "/\\evil.example"):
            answer = await client.ask(path)
            assert answer.status in (400, 404) or answer["location"].startswith("/evil.example"), path
        assert (await client.ask("/evil.example"))["location"] == "/evil.example/"

    talk(App().static("/", site), conversation)


def test_directories_without_an_index(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        for path in ("/files", "/files/", "/files/sub", "/files/sub/"):
            assert (await client.ask(path)).status == 404
        assert (await client.ask("/files/sub/index.html")).status == 200

    talk(served(site, index=None), conversation)


def test_dotfiles_when_they_are_wanted(talk: Talk, site: Path) -> None:
    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/.hidden/x")).body == b"hidden"
        assert (await client.ask("/files/../secret")).status == 404

    talk(served(site, dotfiles=True), conversation)


def test_a_directory_that_cannot_be_served(site: Path) -> None:
    with pytest.raises(NotADirectoryError, match="is no directory"):
        App().static("/files", site / "a.bin")
    for index in ("", "..", "a/b"):
        with pytest.raises(ValueError, match="plain file name"):
            App().static("/files", site, index=index)


# -- sendfile --


def test_sendfile_as_in_socketify(talk: Talk, site: Path) -> None:
    app = App()

    @app.get("/:name")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await sendfile(res, req, str(site / (req.get_parameter(0) or "")), content_type="text/x-mine", cache_control="no-store")

    async def conversation(client: Any) -> None:
        answer = await client.ask("/a.bin")
        assert (answer.body, answer["content-type"], answer["cache-control"]) == (CONTENT, "text/x-mine", "no-store")
        for path in ("/none", "/sub", "/" + "x" * 300):
            missing = await client.ask(path)
            assert (missing.status, missing.body) == (404, b"Not Found")

    talk(app, conversation)


def test_cookies_go_along(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(files.SMALL + 1))
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.set_cookie("seen", "1")
        await sendfile(res, req, tmp_path / "large")

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert answer["set-cookie"].startswith("seen=1")
        assert len(answer.body) == files.SMALL + 1

    talk(app, conversation)


@pytest.mark.parametrize("size", [100, files.SMALL + 1])
def test_fields_before_and_with_the_file(talk: Talk, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    app = App()

    @app.get("/:name")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("Before", "1")
        await sendfile(res, req, tmp_path / (req.get_parameter(0) or ""), headers={"With": "2"})

    async def conversation(client: Any) -> None:
        answer = await client.ask("/file")
        assert (answer.status, answer["before"], answer["with"], len(answer.body)) == (200, "1", "2", size)
        part = await client.ask("/file", headers="Range: bytes=0-9\r\n")
        assert (part.status, part["before"], len(part.body)) == (206, "1", 10)
        missing = await client.ask("/none")
        assert (missing.status, missing["before"], missing.all("with")) == (404, "1", [])

    talk(app, conversation)


def test_a_disk_that_fails_is_a_500(talk: Talk, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "open_best", broken)

    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/a.bin")).status == 500

    talk(served(site), conversation)


# -- Large files --


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Return a directory with one large file."""
    root = tmp_path / "large"
    root.mkdir()
    block = os.urandom(1 << 20)
    (root / "file").write_bytes(block * (LARGE >> 20))
    return root


def ask_and_wait(client: Any, more: str = "") -> socket.socket:
    connection = socket.create_connection((client.address.host, client.address.port), timeout=10)
    connection.sendall(f"GET /files/file HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_large_file_and_a_large_range(talk: Talk, large: Path) -> None:
    content = (large / "file").read_bytes()

    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/file")).body == content
        answer = await client.ask("/files/file", headers="Range: bytes=1000001-20000000\r\n")
        assert answer.status == 206
        assert answer.body == content[1000001:20000001]

    talk(served(large), conversation)


def test_it_leaves_by_sendfile_without_copies(talk: Talk, large: Path) -> None:
    app = served(large)
    amounts: list[int] = []

    async def conversation(client: Any) -> None:
        connection = ask_and_wait(client, "Connection: close\r\n")
        await until(lambda: app.stats()["bytes"] > 0)
        amounts.append(app.stats()["bytes"])
        raw = await asyncio.to_thread(read_all, connection)
        connection.close()
        assert len(raw.partition(b"\r\n\r\n")[2]) == LARGE

    talk(app, conversation)
    assert 0 < amounts[0] < LARGE


def test_a_pipelined_answer_stays_behind_the_file(talk: Talk, large: Path) -> None:
    app = served(large)
    app.get("/next", lambda res, req: res.end("next"))

    async def conversation(client: Any) -> None:
        raw = await client.raw(
            b"GET /files/file HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        rest = raw.partition(b"\r\n\r\n")[2]
        assert rest[LARGE:].startswith(b"HTTP/1.1 200 OK\r\n")
        assert rest.endswith(b"\r\n\r\nnext")

    talk(app, conversation)


def open_descriptors(path: Path) -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself is closed by now
            count += os.readlink(f"/proc/self/fd/{name}") == str(path)
    return count


def test_a_file_that_shrinks_closes_the_connection(talk: Talk, large: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = served(large)

    async def conversation(client: Any) -> None:
        connection = ask_and_wait(client)
        await until(lambda: app.stats()["bytes"] > 0)
        os.truncate(large / "file", 1 << 20)
        raw = await asyncio.to_thread(read_all, connection)
        connection.close()
        assert len(raw.partition(b"\r\n\r\n")[2]) < LARGE
        await until(lambda: open_descriptors(large / "file") == 0)

    talk(app, conversation)
    assert "became shorter while it was sent" in caplog.text


def test_a_small_file_that_shrinks_is_a_clean_500(talk: Talk, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = page_cache.read

    async def read_late(runtime: Any, file: int, offset: int, length: int) -> bytes:
        os.truncate(site / "a.bin", 10)
        return await read(runtime, file, offset, length)

    monkeypatch.setattr(page_cache, "read", read_late)

    async def conversation(client: Any) -> None:
        assert (await client.ask("/files/a.bin")).status == 500

    talk(served(site), conversation)


def test_a_file_that_vanishes_is_sent_to_its_end(talk: Talk, large: Path) -> None:
    app = served(large)

    async def conversation(client: Any) -> None:
        connection = ask_and_wait(client, "Connection: close\r\n")
        await until(lambda: app.stats()["bytes"] > 0)
        (large / "file").unlink()
        raw = await asyncio.to_thread(read_all, connection)
        connection.close()
        assert len(raw.partition(b"\r\n\r\n")[2]) == LARGE
        assert (await client.ask("/files/file")).status == 404

    talk(app, conversation)


def test_a_client_that_goes_leaves_nothing_open(talk: Talk, large: Path) -> None:
    app = served(large)

    async def conversation(client: Any) -> None:
        connection = ask_and_wait(client)
        await until(lambda: app.stats()["bytes"] > 0)
        assert open_descriptors(large / "file") > 0
        connection.close()
        await until(lambda: open_descriptors(large / "file") == 0)

    talk(app, conversation)


def test_a_cold_file_is_fetched_in_a_thread(talk: Talk, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[tuple[int, int, str]] = []
    read_through = page_cache.read_through

    def watched(file: int, offset: int, length: int) -> None:
        fetched.append((offset, length, threading.current_thread().name))
        read_through(file, offset, length)

    monkeypatch.setattr(page_cache, "cached", lambda file, offset, length: 0)
    monkeypatch.setattr(page_cache, "read_through", watched)

    async def conversation(client: Any) -> None:
        assert len((await client.ask("/files/file")).body) == LARGE

    talk(served(large), conversation)
    assert [(offset, length) for offset, length, _ in fetched] == [(offset, 4 << 20) for offset in range(0, LARGE, 4 << 20)]
    assert all(name.startswith("corkbind-disk") for _, _, name in fetched)


def test_a_slow_disk_stops_nobody_else(talk: Talk, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    open_best = files.open_best

    def slow(*arguments: Any) -> Any:
        assert release.wait(10)
        return open_best(*arguments)

    monkeypatch.setattr(files, "open_best", slow)
    app = served(site)
    app.get("/quick", lambda res, req: res.end("quick"))

    async def conversation(client: Any) -> None:
        waiting = asyncio.ensure_future(client.ask("/files/a.bin"))
        assert (await client.ask("/quick")).body == b"quick"
        assert not waiting.done()
        release.set()
        assert (await waiting).body == CONTENT

    talk(app, conversation)


def test_an_opened_file_that_nobody_waits_for_is_closed(in_loop: Callable[..., Any], site: Path) -> None:
    begun, release = threading.Event(), threading.Event()
    closed: list[int] = []

    def work() -> int:
        begun.set()
        assert release.wait(10)
        return 7

    class Loop:
        def create_future(self) -> Any:
            return asyncio.get_running_loop().create_future()

    async def main() -> None:
        task = asyncio.ensure_future(disk.in_thread(Loop(), work, unwanted=closed.append))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        release.set()
        await until(lambda: closed == [7])

    in_loop(main)


# -- Real clients --


def test_curl_resumes_a_download(talk: Talk, large: Path, tmp_path: Path) -> None:
    curl, out = tool("curl"), tmp_path / "out"
    content = (large / "file").read_bytes()
    out.write_bytes(content[: LARGE // 3])

    async def conversation(client: Any) -> None:
        command = [curl, "-sS", "-C", "-", "-o", str(out), f"{client.address.url}/files/file"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, env=tool_environment())
        assert done.returncode == 0, done.stderr
        assert out.read_bytes() == content

    talk(served(large), conversation)


def test_requests_reads_packed_and_plain(talk: Talk, site: Path) -> None:
    with open(site / "page.html", "rb") as plain, gzip.open(site / "page.html.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)

    def ask(url: str) -> None:
        with requests.Session() as session:
            answer = session.get(url, timeout=10)
            assert (answer.text, answer.headers["Content-Encoding"]) == ("<p>page</p>", "gzip")
            again = session.get(url, timeout=10, headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")

    async def conversation(client: Any) -> None:
        await asyncio.to_thread(ask, f"{client.address.url}/files/page.html")

    talk(served(site), conversation)


def test_further_fields_take_the_place_of_ours_in_any_case(site: Path) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await sendfile(res, req, site / "page.html", headers={"content-type": "text/x-mine", "X-More": "1"})

    head = app.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert [line for line in head if line.startswith((b"content-type:", b"x-more:"))] == [
        b"content-type: text/x-mine",
        b"x-more: 1",
    ]


def test_names_that_clients_make_up_are_not_kept(site: Path) -> None:
    app = served(site)
    for number in range(3):
        assert app.feed(b"GET /files/none-%d HTTP/1.1\r\nHost: a\r\n\r\n" % number).startswith(b"HTTP/1.1 404 ")
    assert files._recent == {}
    assert app.feed(b"GET /files/page.html HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert len(files._recent) == 1
