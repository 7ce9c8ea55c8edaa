"""Use the servers with the clients that people have: requests and curl."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from harness import HELLO, HERE, Server, serve, take_chunks, tool, tool_environment

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def hello() -> Iterator[Server]:
    """Run the example."""
    with serve(HELLO, "--port", "0") as server:
        yield server
        assert server.stop() == 0
        assert server.errors == ""


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def rich(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Run an app with more routes."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with serve(HERE / "app_rich.py", request.param) as server:
        yield server
        assert server.stop() == 0
        assert server.errors == ""


# -- requests --


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Give a session without the proxies of the environment."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_example_with_requests(hello: Server, session: requests.Session) -> None:
    response = session.get(hello.url + "/", timeout=10)
    assert (response.status_code, response.text) == (200, "Hello from corkbind\n")
    assert "date" in response.headers
    response = session.get(hello.url + "/users/J%C3%BCrgen", params={"verbose": "1"}, timeout=10)
    assert response.headers["content-type"].startswith("application/json")
    assert response.json() == {"id": "Jürgen", "verbose": True}
    response = session.get(hello.url + "/slow", headers={"User-Agent": "me"}, timeout=10)
    assert (response.text, response.headers["x-agent"]) == ("worth the wait\n", "me")
    response = session.get(hello.url + "/stream", stream=True, timeout=10)
    assert response.headers["transfer-encoding"] == "chunked"
    assert b"".join(response.iter_content(None)) == b"part 0\npart 1\npart 2\npart 3\npart 4\ndone\n"
    response = session.head(hello.url + "/", timeout=10)
    assert (response.status_code, response.headers["content-length"], response.content) == (200, "20", b"")
    assert session.get(hello.url + "/nowhere", timeout=10).status_code == 404
    response = session.post(hello.url + "/", data="x", timeout=10)
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]


def test_a_session_keeps_its_connection(rich: Server, session: requests.Session) -> None:
    ports = set()
    for number in range(20):
        response = session.request(("GET", "POST", "PUT")[number % 3], rich.url + "/echo", data=b"x" * number, timeout=10)
        assert (response.status_code, response.content) == (200, b"x" * number)
        ports.add(response.headers["x-connection"])
        session.head(rich.url + "/version", timeout=10).raise_for_status()
        assert session.get(rich.url + "/status/204", timeout=10).status_code == 204
        assert session.get(rich.url + "/status/304", timeout=10).status_code == 304
        assert session.get(rich.url + "/nowhere", timeout=10).status_code == 404
    assert len(ports) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods(rich: Server, session: requests.Session, method: str) -> None:
    response = session.request(method, rich.url + "/echo", data=b"\x00\xff", timeout=10)
    assert (response.content, response.headers["x-method"]) == (b"\x00\xff", method)


def test_streaming_up(rich: Server, session: requests.Session) -> None:
    parts = [b"%d" % (n % 10) * (n * 100 + 1) for n in range(120)]
    whole = b"".join(parts)
    response = session.post(rich.url + "/count", data=iter(parts), timeout=20)
    answer = response.json()
    assert (answer["size"], answer["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert answer["parts"] > 1
    assert session.post(rich.url + "/echo", data=iter(parts), timeout=20).content == whole


def test_a_large_file_up_and_down(rich: Server, session: requests.Session, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * (8 * 4096))  # 8 MiB
    with file.open("rb") as source:
        answer = session.put(rich.url + "/count", data=source, timeout=20).json()
    assert answer["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    with file.open("rb") as source:
        assert session.post(rich.url + "/echo", data=source, timeout=20).content == file.read_bytes()


def test_streaming_down(rich: Server, session: requests.Session) -> None:
    with session.get(rich.url + "/stream/50/20000", stream=True, timeout=20) as response:
        assert b"".join(response.iter_content(8192)) == b"".join(b"%d" % (n % 10) * 20000 for n in range(50))
    with session.get(rich.url + "/large/3000000", stream=True, timeout=20) as response:
        assert response.headers["content-length"] == "3000000"
        assert b"".join(response.iter_content(65536)) == b"z" * 3_000_000
    assert session.get(rich.url + "/stream/0/0", timeout=20).content == b""


def test_a_stream_that_the_client_leaves(rich: Server, session: requests.Session) -> None:
    for _ in range(3):
        with session.get(rich.url + "/stream/1000/100000", stream=True, timeout=20) as response:
            assert next(response.iter_content(1000)) == b"0" * 1000
    assert session.get(rich.url + "/version", timeout=20).text == "1.1"


def test_redirects(rich: Server, session: requests.Session) -> None:
    response = session.get(rich.url + "/redirect/4", timeout=10)
    assert response.text == "arrived"
    assert [step.status_code for step in response.history] == [307, 302, 307, 302]
    assert session.get(rich.url + "/redirect/1", allow_redirects=False, timeout=10).headers["location"] == "/redirect/0"


def test_cookies(rich: Server, session: requests.Session) -> None:
    assert session.get(rich.url + "/login", timeout=10).json() == {"session": "abc123", "theme": "dark"}
    assert session.cookies.get("session") == "abc123"
    session.cookies.set("theme", "light")
    assert session.get(rich.url + "/cookies", timeout=10).json()["session"] == "abc123"


def test_forms_and_json(rich: Server, session: requests.Session) -> None:
    fields = {"name": "Jürgen & Söhne", "tag": ["a", "b c"], "empty": ""}
    assert session.post(rich.url + "/form", data=fields, timeout=10).json() == {
        "name": ["Jürgen & Söhne"],
        "tag": ["a", "b c"],
        "empty": [""],
    }
    value = {"a": [1, 2.5, None, "ü"]}
    assert session.post(rich.url + "/json", json=value, timeout=10).json() == {"got": value, "type": "application/json"}
    assert session.post(rich.url + "/json", data="{", timeout=10).status_code == 400
    assert session.get(rich.url + "/query", params={"a": ["1", "é"], "b": ""}, timeout=10).json() == {"a": ["1", "é"], "b": [""]}


def test_an_answer_without_reading_the_body(rich: Server, session: requests.Session) -> None:
    for size in (10, 100_000):
        assert session.post(rich.url + "/refuse", data=b"x" * size, timeout=10).status_code == 403
    assert session.get(rich.url + "/version", timeout=10).text == "1.1"


# -- curl --


def curl(*arguments: str, status: int = 0, input: bytes = b"") -> bytes:
    """Run curl and return what it prints."""
    command = [tool("curl"), "--silent", "--show-error", "--max-time", "20", "--noproxy", "*", *arguments]
    done = subprocess.run(command, input=input, capture_output=True, env=tool_environment())
    assert done.returncode == status, (arguments, done)
    return done.stdout


def test_example_with_curl(hello: Server) -> None:
    assert curl(hello.url) == b"Hello from corkbind\n"
    assert json.loads(curl(f"{hello.url}/users/42?verbose=1")) == {"id": "42", "verbose": True}
    assert curl(f"{hello.url}/slow") == b"worth the wait\n"
    assert curl(f"{hello.url}/stream", "--no-buffer").endswith(b"part 4\ndone\n")
    head = curl("--head", hello.url)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 20\r\n" in head.lower()
    head, _, body = curl("--raw", "--include", f"{hello.url}/stream").partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert take_chunks(body) == (b"part 0\npart 1\npart 2\npart 3\npart 4\ndone\n", b"")


def test_curl_speaks_http_1_0(hello: Server, rich: Server) -> None:
    assert curl("--http1.0", f"{rich.url}/version") == b"1.0"
    head, _, body = curl("--http1.0", "--include", f"{hello.url}/stream").partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower(), "a 1.0 client knows no chunks"
    assert b"connection: close" in head.lower()
    assert body == b"part 0\npart 1\npart 2\npart 3\npart 4\ndone\n"
    shown = curl("--http1.0", "--include", "--header", "Connection: keep-alive", f"{rich.url}/version")
    assert b"connection: keep-alive" in shown.lower()
    assert curl("--http1.0", "--data", "abc", f"{rich.url}/echo") == b"abc"


@pytest.mark.parametrize("target", ["/count", "/echo"])
def test_curl_expects_100_continue(rich: Server, tmp_path: Path, target: str) -> None:
    # /echo has begun its head when it asks for the body: the 100 still comes first.
    waits = ["--expect100-timeout", "15", "--header", "Expect: 100-continue"]
    trace = tmp_path / "trace"
    asked = curl(*waits, "--trace-ascii", str(trace), "--data", "a body", rich.url + target)
    assert b"a body" in asked or json.loads(asked)["size"] == 6
    text = trace.read_text()
    assert text.index("HTTP/1.1 100 Continue") < text.index("=> Send data")
    assert text.index("HTTP/1.1 100 Continue") < text.index("HTTP/1.1 200 OK")
    refused = curl(*waits, "--include", "--data", "x", f"{rich.url}/refuse")
    assert refused.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"connection: close" in refused.lower()


def test_curl_uploads(rich: Server, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"0123456789abcdef" * (256 * 1024))  # 4 MiB
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for more in ([], ["--header", "Transfer-Encoding: chunked"], ["--header", "Expect:"]):
        answer = json.loads(curl("-T", str(file), *more, f"{rich.url}/count"))
        assert (answer["size"], answer["sha256"]) == (4 << 20, digest), more
    answer = curl("-T", "-", f"{rich.url}/echo", input=b"from a pipe, in chunks")
    assert answer == b"from a pipe, in chunks"
    answer = curl("--header", "Transfer-Encoding: chunked", "--data-binary", f"@{file}", f"{rich.url}/echo")
    assert answer == file.read_bytes()
    assert json.loads(curl("-F", "field=value", "-F", f"file=@{file}", f"{rich.url}/count"))["size"] > 4 << 20


def test_curl_reuses_its_connection(rich: Server) -> None:
    shown = curl("--include", "--data", "a", f"{rich.url}/echo", "--next", "--include", "--data", "b", f"{rich.url}/echo")
    assert len(set(re.findall(rb"X-Connection: (\d+)", shown))) == 1
    assert len(re.findall(rb"HTTP/1.1 200", shown)) == 2


def test_curl_follows_and_remembers(rich: Server, tmp_path: Path) -> None:
    assert curl("--location", f"{rich.url}/redirect/3") == b"arrived"
    jar = str(tmp_path / "jar")
    assert json.loads(curl("--location", "--cookie-jar", jar, "--cookie", jar, f"{rich.url}/login")) == {
        "session": "abc123",
        "theme": "dark",
    }


def test_http_0_9_is_refused(rich: Server) -> None:
    # curl cannot ask in 0.9; it can only accept such an answer, which never comes.
    with rich.peer() as peer:
        assert peer.send(b"GET /version\r\n").rest().startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert curl("--http0.9", f"{rich.url}/version") == b"1.1"
