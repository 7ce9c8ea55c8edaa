"""Behind proxies: whom the PROXY protocol and the Forwarded fields name, and who may name anybody."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from harness import request

from corkbind import App, HttpRequest, HttpResponse
from corkbind.proxies import Networks
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
LINE = b"PROXY TCP4 203.0.113.7 127.0.0.1 4660 80\r\n"


def make_app(**options: Any) -> App:
    app = App(**options)

    @app.get("/")
    def tell(res: HttpResponse, req: HttpRequest) -> None:
        told = [req.get_proxied_remote_address(), req.get_proxied_scheme(), req.get_proxied_host(), req.get_remote_address()]
        assert res.get_proxied_remote_address() == told[0]
        assert told[0] == req.preserve().get_proxied_remote_address()
        res.json(told)

    return app


def ask(app: App, *fields: str, prefix: bytes = b"", peer: str = "127.0.0.1") -> Any:
    """Send one request from a peer; return what the handler says, or None where the connection was closed."""
    with Loopback(app) as loopback:
        client = loopback.connect((peer, 4321))
        client.send(prefix + request(headers="".join(f"{field}\r\n" for field in fields)))
        loopback.finish()
        received = b"".join(client.writes)
        return json.loads(received.partition(b"\r\n\r\n")[2]) if received.startswith(b"HTTP/1.1 200") else received or None


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([], None),
        (["X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
        (["X-Forwarded-For: 1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
        (["X-Forwarded-For: garbage, 203.0.113.7 ,10.0.0.1"], "203.0.113.7"),
        (["X-Forwarded-For: 203.0.113.7:4660, 10.0.0.1:80"], "203.0.113.7"),
        (["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        (["X-Forwarded-For: [2001:db8::1]:80"], "2001:db8::1"),
        (["X-Forwarded-For: 10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        (["X-Forwarded-For: 203.0.113.7, garbage"], None),
        (["X-Forwarded-For: 203.0.113.7,"], None),
        (["X-Forwarded-For: "], None),
        (["X-Forwarded-For: 1.2.3.04"], None),
        (["X-Forwarded-For: 1.2.3.4.5"], None),
        (["Forwarded: for=203.0.113.7"], "203.0.113.7"),
        (['Forwarded: FOR="[2001:db8::1]:80";proto=https'], "2001:db8::1"),
        (['Forwarded: for=1.1.1.1, for="203.0.113.7:80"; by=10.0.0.1, for=10.0.0.1'], "203.0.113.7"),
        (["Forwarded: for=unknown"], None),
        (["Forwarded: for=203.0.113.7, for=_hidden"], None),
        (["Forwarded: for=1.1.1.1;for=2.2.2.2"], None),
        (["Forwarded: for=1.1.1.1 for=2.2.2.2"], None),
        (['Forwarded: for="1.1.1.1, for=2.2.2.2'], None),
        (['Forwarded: for=1.1.1.1;ext="a, for=2.2.2.2"'], "1.1.1.1"),
        (["Forwarded: proto=https"], None),
        (["Forwarded: for=203.0.113.7", "X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
        (["Forwarded: for=1.1.1.1", "X-Forwarded-For: 203.0.113.7"], None),
    ],
)
def test_who_the_client_is(fields: list[str], wanted: str | None) -> None:
    app = make_app(trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"])
    assert ask(app, *fields)[0] == wanted
    assert ask(app, *fields, peer="192.0.2.1") == [None, None, None, "192.0.2.1"], "a stranger is not believed"
    assert ask(make_app(), *fields)[0] is None, "nobody is, unless trusted"


def test_scheme_and_host() -> None:
    app = make_app(trusted_proxies=["127.0.0.1"])
    usual = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: Example.org:8443"]
    assert ask(app, *usual)[1:3] == ["https", "example.org:8443"]
    assert ask(app, 'Forwarded: for=203.0.113.7;proto=HTTP;host="Example.org:80"')[1:3] == ["http", "example.org:80"]
    assert ask(app, usual[0], "X-Forwarded-Proto: http, https", "X-Forwarded-Host: evil, b")[1:3] == ["https", "b"]
    assert ask(app, usual[0], "X-Forwarded-Proto: gopher", "X-Forwarded-Host: a b")[1:3] == [None, None]


def test_proxy_protocol() -> None:
    app = make_app(proxy_protocol=["127.0.0.1"])
    assert ask(app, prefix=LINE) == ["203.0.113.7", None, None, "127.0.0.1"]
    assert ask(app) is None, "no header, no answer"
    assert ask(app, peer="192.0.2.1") == [None, None, None, "192.0.2.1"]
    assert ask(app, prefix=LINE, peer="192.0.2.1").startswith(b"HTTP/1.1 400 ")
    assert ask(make_app(), prefix=LINE).startswith(b"HTTP/1.1 400 ")


def test_forwarded_behind_the_proxy_protocol() -> None:
    fields = ["X-Forwarded-For: 198.51.100.9"]
    app = make_app(proxy_protocol=["127.0.0.1"], trusted_proxies=["127.0.0.1"])
    assert ask(app, *fields, prefix=LINE)[0] == "203.0.113.7", "who the load balancer names is no trusted proxy"
    app = make_app(proxy_protocol=["127.0.0.1"], trusted_proxies=["203.0.113.0/24"])
    assert ask(app, *fields, prefix=LINE)[0] == "198.51.100.9"


def test_networks() -> None:
    networks = Networks(["10.0.0.0/8", "2001:db8::/32", "unix"])
    assert networks.hold(socket.inet_pton(socket.AF_INET, "10.1.2.3"))
    assert networks.hold(socket.inet_pton(socket.AF_INET6, "::ffff:10.1.2.3"))
    assert networks.hold(socket.inet_pton(socket.AF_INET6, "2001:db8::9"))
    assert networks.hold(None)
    assert not networks.hold(socket.inet_pton(socket.AF_INET, "11.1.2.3"))
    assert not Networks(["10.0.0.0/8"]).hold(None)
    assert not Networks()
    for name in ("10.0.0.1/8", "proxy", "", "1.2.3.4/33"):
        with pytest.raises(ValueError, match="no network of proxies"):
            App(trusted_proxies=[name])
    with pytest.raises(TypeError, match="list of networks"):
        App(proxy_protocol="10.0.0.0/8")
