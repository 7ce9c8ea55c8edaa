"""What an app takes for a host name, and the options of TLS."""

from __future__ import annotations

from typing import Any

import pytest

from corkbind import App, AppOptions, HttpRequest, HttpResponse, TlsError
from corkbind.hostnames import host_pattern, server_name

LONG = ".".join("ab" * 130)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("www.Example.COM", "www.example.com"),
        ("example.com.", "example.com"),
        ("*.example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("_service.xn--bcher-kva.example", "_service.xn--bcher-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_host_names(given: str, meant: str) -> None:
    assert host_pattern(given) == meant


@pytest.mark.parametrize(
    "given",
    ["", ".", "a..b", "a b", "a:80", "bücher.example", "\u212a.example", "www*.a", "a/b", "a\0b", "a" * 64, LONG],
)
def test_what_is_no_host_name(given: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        host_pattern(given)
    with pytest.raises(ValueError, match="no host name"):
        App().domain(given)


def test_addresses_are_no_server_names() -> None:
    for address in ("10.0.0.1", "1", "*.1"):
        with pytest.raises(ValueError, match="is an address"):
            server_name(address)
    wrong: Any = 1
    with pytest.raises(TypeError, match="must be str"):
        host_pattern(wrong)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"min_version": "1.1"}, ValueError, "min_version must be '1.2' or '1.3', not '1.1'"),
        ({"min_version": 1.2}, RuntimeError, "min_version must be str"),
        ({"min_version": None}, ValueError, "min_version must be"),
        ({"verify": "maybe", "ca_file_name": "a"}, ValueError, "verify must be"),
        ({"verify": "optional"}, ValueError, "needs ca_file_name"),
        ({"verify": True}, RuntimeError, "verify must be str"),
        ({"sni_strict": 1}, RuntimeError, "sni_strict must be bool"),
        ({"check_host": None}, RuntimeError, "check_host must be bool"),
    ],
)
def test_options(options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        AppOptions(**options)


def test_server_names_need_tls() -> None:
    app = App().add_server_name("a.example")
    with pytest.raises(TlsError, match=r"a\.example needs TLS"):
        app.listen(0)
    app.remove_server_name("A.Example.").listen(0)
    with pytest.raises(TlsError, match=r"b\.example needs TLS"):
        app.add_server_name("b.example")
    with pytest.raises(TlsError, match="plain HTTP"):
        app.reload_certificates()
    app.close()


def test_what_names_are_given() -> None:
    app = App(AppOptions())
    wrong: Any = {"key_file_name": "a"}
    with pytest.raises(TypeError, match="must be AppOptions"):
        app.add_server_name("a.example", wrong)
    for own in (AppOptions(sni_strict=True), AppOptions(check_host=False)):
        with pytest.raises(ValueError, match="of the whole app"):
            app.add_server_name("a.example", own)

    async def later(name: str) -> None: ...

    for odd in (later, 1):
        with pytest.raises(TypeError, match="plain function"):
            app.missing_server_name(odd)  # type: ignore[arg-type]
    assert app.missing_server_name(None) is app
    assert app.add_server_name("a.example") is app
    assert app.remove_server_name("a.example") is app
    assert app.reload_certificates() is app  # its files are read when it opens


# -- Domains over plain HTTP --


def ask(app: App, host: str, path: str = "/") -> bytes:
    return app.feed(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


def say(text: str) -> Any:
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end(text)

    return handler


def test_domains_by_host() -> None:
    app = App().get("/", say("own"))
    first = app.domain("a.Example")
    assert first.get("/", say("a")) is first
    first.domain("*.example").get("/", say("wild")).any("/any/:x", say("any"))
    app.domain("10.0.0.1").get("/", say("address"))
    for host, text in {
        "a.example": b"a",
        "A.EXAMPLE.:8000": b"a",
        "b.example": b"wild",
        "c.b.example": b"own",
        "example": b"own",
        "10.0.0.1:80": b"address",
        "10.0.0.2": b"own",
        "[::1]:80": b"own",
    }.items():
        assert ask(app, host).endswith(b"\r\n\r\n" + text), host
    assert b" 404 " in ask(app, "a.example", "/any/1")
    assert ask(app, "b.example", "/any/1").endswith(b"any")
    assert b" 404 " in ask(app, "b.example", "/none")
    assert app.feed(b"GET / HTTP/1.0\r\n\r\n").endswith(b"own")
    assert app.feed(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").endswith(b"a")


def test_domains_have_all_kinds_of_routes(tmp_path: Any) -> None:
    from corkbind import Fixed

    (tmp_path / "page.txt").write_text("page")
    app = App()
    domain = app.domain("a.example")
    assert domain.app is app
    domain.static("/files", tmp_path).get("/fixed", Fixed("fixed"))
    domain.router("/under").get("/it", say("under"))
    domain.ws("/ws", {"message": lambda ws, message, opcode: None})

    @domain.post("/posted", max_body=3)
    def posted(res: HttpResponse, req: HttpRequest) -> None:
        res.end("posted")

    assert ask(app, "a.example", "/files/page.txt").endswith(b"page")
    assert ask(app, "a.example", "/fixed").endswith(b"fixed")
    assert ask(app, "a.example", "/under/it").endswith(b"under")
    assert b" 426 " in ask(app, "a.example", "/ws")
    assert b" 404 " in ask(app, "b.example", "/ws")
    for path in ("/files/page.txt", "/fixed", "/under/it", "/posted"):
        assert b" 404 " in ask(app, "b.example", path)
    assert b" 405 " in ask(app, "a.example", "/posted")
    post = b"POST /posted HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    assert app.feed(post % (2, b"ab")).endswith(b"posted")
    assert b" 413 " in app.feed(post % (4, b"abcd"))
    with pytest.raises(ValueError, match="pattern"):
        domain.get("no slash", say(""))
    with pytest.raises(TypeError, match="callable"):
        domain.add_route("GET", "/", 1)  # type: ignore[arg-type]


def test_routes_of_domains_are_counted_with_their_names() -> None:
    app = App().get("/", say("own"))
    app.domain("a.example").get("/", say("a"))
    app.listen(0)
    app.domain("b.example").get("/late", say("late"))  # of an app that is open
    assert {row["path"] for row in app.route_stats()} == {"/", "a.example/", "b.example/late", ""}
    app.close()


def test_set_yield_stays_in_the_domain() -> None:
    app = App().any("/*", say("own"))

    def passes(res: HttpResponse, req: HttpRequest) -> None:
        req.set_yield(True)

    app.domain("a.example").get("/", passes).any("/*", say("next"))
    assert ask(app, "a.example").endswith(b"next")
