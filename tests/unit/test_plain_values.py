"""Check what needs no server: options, limits, cookies, fields, errors, decoding."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from corkbind import App, AppListenOptions, AppOptions, BadRequest, CorkbindError, Fixed, Limits, errors, percent
from corkbind._ffi import constants as ck
from corkbind.cookies import format_cookie, parse_cookies
from corkbind.dispatch import handler_name
from corkbind.fields import exact_bytes, field_name, field_value, status_number

pytestmark = pytest.mark.filterwarnings("error")


class Sly(bytes):
    def __bytes__(self) -> bytes:
        return b"other"


# -- Options --


def test_listen_options_take_all_that_listen_takes() -> None:
    assert AppListenOptions.of(None) == AppListenOptions(0, None, 1, None)
    assert AppListenOptions.of(80) == AppListenOptions.of({"port": 80}) == AppListenOptions(80, options=1)
    assert AppListenOptions.of({"port": 80, "options": 0}) == AppListenOptions(80)
    assert AppListenOptions.of({"port": 1, "host": "::1", "options": 1}) == AppListenOptions(1, "::1", 1)
    given = AppListenOptions(domain="/tmp/x")
    assert AppListenOptions.of(given) is given


@pytest.mark.parametrize(
    "given",
    [
        {"port": "80"},
        {"port": True},
        {"host": b"x"},
        {"options": None},
        {"domain": 1},
        {"domain": "/x", "port": 1},
        {"domain": "/x", "host": "y"},
        {"prot": 1},
        {"port": -1},
        65536,
        2**40,
        "80",
    ],
)
def test_listen_options_refuse(given: object) -> None:
    with pytest.raises(RuntimeError):
        AppListenOptions.of(given)  # type: ignore[arg-type]


def test_tls_options_are_checked() -> None:
    with pytest.raises(RuntimeError, match="cert_file_name"):
        AppOptions(cert_file_name=1)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="ssl_prefer"):
        AppOptions(ssl_prefer_low_memory_usage="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="AppOptions"):
        App({"key_file_name": "key.pem"})  # type: ignore[arg-type]


def test_limits_refuse_what_makes_no_sense() -> None:
    assert Limits().window == Limits().pipeline == 65536
    with pytest.raises(ValueError, match="body"):
        Limits(body=-1)
    for name, top in {"fields": 100, "field": 65535, "idle_seconds": 960, "handler_seconds": 960}.items():
        assert getattr(Limits(**{name: top}), name) == top
        with pytest.raises(ValueError, match=f"Limits.{name} must be from 0 to {top}, not {top + 1}"):
            Limits(**{name: top + 1})
    with pytest.raises(ValueError, match="line"):
        Limits(line=1 << 32)
    with pytest.raises(TypeError, match="rate"):
        Limits(rate=1.5)  # type: ignore[arg-type]


def test_cork_mode_is_checked() -> None:
    with pytest.raises(ValueError, match="'auto'"):
        App(cork="on")  # type: ignore[arg-type]


# -- Fields --


def test_only_exact_bytes_leave() -> None:
    for given in (Sly(b"abc"), bytearray(b"abc"), memoryview(b"abc")):
        assert type(exact_bytes(given)) is bytes
        assert exact_bytes(given) == b"abc"


def test_field_values() -> None:
    assert field_value(12, "x") == b"12"
    assert field_value("caf\xe9", "x") == b"caf\xe9"
    with pytest.raises(ValueError, match=r"'x' holds '€' \(U\+20AC\) at position 1"):
        field_value("a€", "x")
    for odd in (True, 1.5, None):
        with pytest.raises(TypeError):
            field_value(odd, "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        field_name(1)  # type: ignore[arg-type]


def test_status_numbers() -> None:
    assert status_number(404) == 404
    for odd in (99, 1000, -1, 1 << 40):
        with pytest.raises(ValueError, match="not a status"):
            status_number(odd)
    with pytest.raises(TypeError):
        status_number(True)


def test_fixed_is_checked_when_made() -> None:
    assert Fixed("é").head == b"Content-Type: text/plain; charset=utf-8\r\n"
    assert Fixed(b"x", content_type="").head == b""
    assert Fixed(b"x", headers={"content-type": "a/b"}).head == b"content-type: a/b\r\n"
    with pytest.raises(ValueError, match="line end"):
        Fixed(headers=[("X", "a\r\nSet-Cookie: b=c")])
    with pytest.raises(TypeError):
        Fixed({"not": "text"})  # type: ignore[arg-type]
    for name in ("Date", "content-length", b"Transfer-Encoding", "CONNECTION"):
        with pytest.raises(ValueError, match=f"the header {name!r} "):
            Fixed(headers=[(name, "1")])
    with pytest.raises(ValueError, match="the name 'X Y' is not a token"):
        Fixed(headers={"X Y": "1"})
    with pytest.raises(ValueError, match="max_body"):
        App().get("/", Fixed("x"), max_body=5)


# -- Cookies --


def test_cookie_with_all_attributes() -> None:
    options = {
        "expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "max-age": 60,
        "domain": "example.org",
        "path": "/",
        "secure": True,
        "HttpOnly": True,
        "samesite": "none",
        "partitioned": True,
    }
    assert format_cookie("id", "1", options) == (
        b"id=1; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Max-Age=60; Domain=example.org; Path=/; "
        b"Secure; HttpOnly; Partitioned; SameSite=None"
    )
    assert format_cookie("id", "1", {"max_age": 0, "secure": False, "path": None}) == b"id=1; Max-Age=0"
    assert format_cookie("id", "", {"expires": 0}) == b"id=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("", "v", {}),
        ("a b", "v", {}),
        ("a;b", "v", {}),
        ("a=b", "v", {}),
        ("é", "v", {}),
        ("n", "a;b", {}),
        ("n", "a b", {}),
        ("n", 'a"b', {}),
        ("n", "a\r\nX: y", {}),
        ("n", "a\n", {}),
        ("n\n", "a", {}),
        ("n", "é", {}),
        ("n", "v", {"path": "/;a"}),
        ("n", "v", {"path": "/\r\nX: y"}),
        ("n", "v", {"domain": "a\x00"}),
        ("n", "v", {"expires": "x;y"}),
        ("n", "v", {"max-age": "x"}),
        ("n", "v", {"max-age": float("inf")}),
        ("n", "v", {"expires": 1e20}),
        ("n", "v", {"expires": float("nan")}),
        ("n", "v", {"samesite": "maybe"}),
        ("n", "v", {"samesite": "None"}),
        ("n", "v", {"partitioned": True}),
        ("n", "v", {"colour": "red"}),
        ("__Secure-n", "v", {}),
        ("__Host-n", "v", {"secure": True}),
        ("__Host-n", "v", {"secure": True, "path": "/", "domain": "x"}),
    ],
)
def test_cookies_that_cannot_be(name: str, value: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        format_cookie(name, value, options)


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [("n", 5, {}), ("n", None, {}), (b"n", "v", {}), ("n", "v", {"secure": "no"}), ("n", "v", {"httponly": "false"})],
)
def test_types_that_no_cookie_has(name: Any, value: Any, options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"must be str|is True or False"):
        format_cookie(name, value, options)


def test_cookie_flags_may_be_numbers() -> None:
    assert format_cookie("n", "v", {"secure": 1, "httponly": 0, "max-age": 0}) == b"n=v; Max-Age=0; Secure"


def test_cookies_are_read() -> None:
    assert parse_cookies('a=1; b="x y"; a=2; broken; c==; d=') == {"a": "1", "b": "x y", "c": "=", "d": ""}
    assert parse_cookies(None) == {}


# -- Decoding --


def test_percent_decoding() -> None:
    assert percent.decode("a%20b", "x") == "a b"
    assert percent.decode("a+b", "x") == "a+b"
    assert percent.decode("%C3%A9", "x") == "é"
    assert percent.decode("%zz", "x") == "%zz"
    assert percent.decode("\xc3\xa9", "x") == "é"
    for odd in ("%ff", "\xff"):
        with pytest.raises(BadRequest):
            percent.decode(odd, "x")


def test_pairs() -> None:
    assert percent.pairs("a=1&a=2&b=&c=%C3%A9+x", "q") == [("a", "1"), ("a", "2"), ("b", ""), ("c", "é x")]
    assert percent.pairs("", "q") == []
    with pytest.raises(BadRequest):
        percent.pairs("a=%ff", "q")
    with pytest.raises(BadRequest):
        percent.pairs("&".join(["a=1"] * 1001), "q")


# -- Errors --


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (ck.CK_EXPIRED, errors.RequestExpired, "preserve"),
        (ck.CK_FINISHED, errors.ResponseFinished, "ended"),
        (ck.CK_ABORTED, errors.ConnectionClosed, "client"),
        (ck.CK_THREAD, errors.WrongThread, r"app\.defer\(fn\)"),
        (ck.CK_NOLOOP, errors.WrongThread, r"app\.defer\(fn\)"),
        (ck.CK_NAME, ValueError, "'a b' is not a token"),
        (ck.CK_VALUE, ValueError, "a character"),
        (ck.CK_STATUS, ValueError, "200 to 599"),
        (ck.CK_FRAMING, ValueError, "frames"),
        (ck.CK_LENGTH, ValueError, "Content-Length"),
        (ck.CK_STARTED, errors.ResponseStarted, "complete"),
        (ck.CK_NOMEM, MemoryError, "memory"),
        (ck.CK_STATE, CorkbindError, "state"),
        (-99, CorkbindError, "-99"),
    ],
)
def test_refusals(result: int, kind: type[Exception], text: str) -> None:
    error = errors.refusal(result, "do it", "a b")
    assert isinstance(error, kind)
    assert __import__("re").search(text, str(error))


def test_odd_character_is_named() -> None:
    assert "'\\n' at position 1" in errors.odd_character("a\nb")
    assert "'\\x7f'" in errors.odd_character(b"\x7f")


def test_closed_connections_say_why() -> None:
    error = errors.ConnectionClosed(ck.CK_ABORT_TIMEOUT)
    assert error.code == ck.CK_ABORT_TIMEOUT
    assert "too long" in error.reason


# -- Routes and names --


def test_routes_refuse_what_makes_no_sense() -> None:
    app = App()
    with pytest.raises(ValueError, match="pattern"):
        app.get("no-slash", print)
    with pytest.raises(TypeError):
        app.get("/", 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        app.get(5, print)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_body"):
        app.get("/", print, max_body=-1)


def test_both_ways_to_add_a_route() -> None:
    app = App()
    assert app.get("/", print) is app

    @app.post("/")
    def handler(res: object, req: object) -> None: ...

    assert handler.__name__ == "handler"


def test_handlers_have_names() -> None:
    import functools

    assert handler_name(functools.partial(test_handlers_have_names)).endswith("test_handlers_have_names")
    assert handler_name(App()).endswith("App")
