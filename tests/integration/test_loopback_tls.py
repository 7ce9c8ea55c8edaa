"""Check that a loopback's clients speak TLS to the code that production runs."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest
from harness import ROOT
from tls_material import Material

from corkbind import App, AppOptions, HttpRequest, HttpResponse, TlsError
from corkbind.testing import Faults, Loopback, LoopbackViolation, Tls, TlsConnection, assert_one_send, require_split_invariance
from corkbind.testing.oracles import outcome

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


def make_app(options: AppOptions | None) -> App:
    app = App(options)

    @app.get("/")
    async def after_a_wait(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(1)
        for number in range(5):
            res.write_header(f"x-{number}", "value")
        res.end(b"x" * int(req.get_query("bytes") or 10))

    @app.post("/")
    async def echo(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.get("/scheme")
    def scheme(res: HttpResponse, req: HttpRequest) -> None:
        res.end(req.get_scheme())

    app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(message, opcode)})
    return app


@pytest.fixture
def app(material: Material) -> App:
    return make_app(material.options())


@pytest.fixture
def lo(app: App) -> Iterator[Loopback]:
    with Loopback(app) as loopback:
        yield loopback
        loopback.check()


# -- Plaintext on top --


def test_feed_speaks_plaintext_through_tls(app: App) -> None:
    answer = app.feed(b"GET /scheme HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhttps")
    assert app.feed(GET) == app.feed(GET)  # also after virtual time, which begins anew


def test_a_request_waits_for_the_handshake_and_is_answered(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    assert not client.established
    client.send(GET)
    lo.advance(1)
    assert client.established
    assert client.object.version() == "TLSv1.3"
    assert client.recv().endswith(b"x" * 10)
    assert client.sent == [GET]
    assert lo.request("POST", "/", body=b"body").body == b"body"


def test_what_the_app_speaks_is_the_default(material: Material, app: App) -> None:
    with Loopback(app) as lo:
        assert isinstance(lo.connect(), TlsConnection)
        assert not isinstance(lo.connect(tls=False), TlsConnection)
    with Loopback(make_app(None)) as lo:
        assert not isinstance(lo.connect(), TlsConnection)
    with Loopback(app, tls=Tls(alpn=("http/1.1",))) as lo:
        client = lo.connect()
        lo.run()
        assert isinstance(client, TlsConnection)
        assert client.object.selected_alpn_protocol() == "http/1.1"


def test_websocket_over_tls(lo: Loopback) -> None:
    ws = lo.websocket("/ws")
    assert ws.send_text("hello").recv() == "hello"
    assert ws.send_text("in pieces", pieces=[1]).recv() == "in pieces"
    ws.close()
    assert ws.closed
    assert ws.connection.closed == "fin"
    assert isinstance(ws.connection, TlsConnection)
    assert ws.connection.notified


def test_an_answer_is_one_record_in_one_send(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    client.send(b"GET /?bytes=10240 HTTP/1.1\r\nHost: a\r\n\r\n")
    lo.advance(1)
    assert client.records == [[len(client.received)]]
    assert len(client.received) > 10240
    assert_one_send(client)
    client.send(b"GET /?bytes=40960 HTTP/1.1\r\nHost: a\r\n\r\n")
    lo.advance(1)
    assert len(client.records) == 2
    assert client.records[1][:2] == [16384, 16384]
    assert len(client.records[1]) == 3
    assert_one_send(client)
    assert lo.stats()["sends"] == 2
    assert lo.stats()["tls_records"] == 4


def test_pieces_of_plaintext_change_nothing(app: App) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    require_split_invariance(app, request, [[1], [10, 20, 30], range(1, len(request))])


STREAMS = (
    GET,
    GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + GET,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n" + GET,
    b"\x00nothing of the kind\r\n\r\n",
    b"GET /?bytes=50000 HTTP/1.1\r\nHost: a\r\n\r\n",
)


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_the_plaintext_is_that_of_a_plain_app(material: Material, number: int) -> None:
    stream = STREAMS[number]
    for segments in ([stream], [stream[:9], stream[9:]], [bytes([byte]) for byte in stream]):
        assert outcome(make_app(material.options()), segments) == outcome(make_app(None), segments)


# -- Ends --


def test_a_clean_end_is_close_notify_both_ways(lo: Loopback) -> None:
    client = lo.connect(tls=True).send(GET)
    lo.advance(1)
    client.close_notify()
    lo.run()
    assert client.notified
    assert client.closed == "fin"
    assert not client.truncated
    with pytest.raises(ValueError, match="ended"):
        client.send(b"more")


def test_a_close_notify_before_the_answer_does_not_lose_it(lo: Loopback) -> None:
    client = lo.connect(tls=True).send(GET)
    client.close_notify()
    lo.advance(1)
    assert client.received.endswith(b"x" * 10)
    assert client.notified


def test_a_fin_alone_cuts_the_stream_off(app: App) -> None:
    bodies: list[str] = []

    @app.post("/upload")
    async def upload(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await req.body()
        except Exception as error:
            bodies.append(type(error).__name__)
            raise

    with Loopback(app) as lo:
        client = lo.connect(tls=True).send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        lo.run()
        client.raw_fin()
        lo.run()
        assert bodies == ["BodyIncomplete"]
        assert client.closed
        assert client.received.startswith(b"HTTP/1.1 400 ")


def test_fin_is_close_notify_and_fin(lo: Loopback) -> None:
    client = lo.connect(tls=True).send(GET)
    client.fin()
    lo.advance(1)
    assert client.received.endswith(b"x" * 10)
    assert client.closed == "fin"
    assert client.notified


# -- Beneath --


def test_a_handshake_in_single_bytes(lo: Loopback) -> None:
    client = lo.connect(tls=Tls(pieces=(1,)))
    client.send(GET)
    lo.advance(1)
    assert client.received.endswith(b"x" * 10)
    assert all(len(part) == 1 for part in client.raw_sent[:-1])
    assert len(client.raw_sent) > 200


def test_a_hello_of_a_byte_a_second_ends_at_the_deadline(lo: Loopback) -> None:
    client = lo.connect(tls=Tls(hold=True))
    seconds = 0
    while not client.closed and seconds < 100:
        client.let(1)
        lo.advance(1)
        seconds += 1
    assert lo.app.limits.head_seconds <= seconds <= lo.app.limits.head_seconds + 4
    assert client.closed == "fin"
    assert not client.raw_writes


def test_what_is_held_can_be_changed(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    lo.run()
    client.hold = True
    client.send(GET)
    client.held[-1] ^= 1
    client.let()
    lo.run()
    assert client.failure is not None
    assert client.failure.reason == "SSLV3_ALERT_BAD_RECORD_MAC"
    assert client.closed == "fin"
    assert lo.stats()["tls_failures"] == 1
    assert lo.request("GET", "/scheme").body == b"https"  # nothing is left of it for the next


def test_a_record_that_is_cut_and_reset(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    lo.run()
    client.hold = True
    client.send(GET).let(20)
    lo.run()
    client.reset()
    lo.run()
    assert client.closed == "rst"
    assert not client.received


def test_garbage_behind_the_handshake(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    lo.run()
    client.raw_send(b"\x99garbage")
    lo.run()
    assert client.failure is not None
    assert client.closed == "fin"


def test_plain_text_is_told_so(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect(tls=False).send(GET)
        lo.run()
        assert client.recv().startswith(b"HTTP/1.1 400 ")
        assert lo.stats()["tls_failures"] == 1


def test_tls_to_a_plain_app() -> None:
    with Loopback(make_app(None)) as lo:
        client = lo.connect(tls=True)
        lo.run()
        assert client.failure is not None
        assert client.raw_writes[0].startswith(b"HTTP/1.1 400 ")
        with pytest.raises(LoopbackViolation, match="TLS has failed"):
            client.require_handshake()


def test_slow_clients_and_short_writes_lose_nothing(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect(tls=True).send(b"GET /?bytes=100000 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.window = 1000
        lo.advance(2)
        assert client.window == 0
        assert not client.received
        lo.faults = Faults(send=["EAGAIN", 1, 1, 100, "EAGAIN"])
        client.window = None
        lo.run()
        assert client.received.endswith(b"x" * 1000)
        assert len(client.received) > 100000
        assert sum(map(sum, client.records)) == len(client.received)
        assert max(map(max, client.records)) == 16384


def test_a_window_of_the_handshake(lo: Loopback) -> None:
    client = lo.connect(tls=True)
    client.raw_window = 100
    lo.run()
    assert not client.established
    assert client.raw_window == 0
    assert [len(data) for data in client.raw_writes] == [100]
    client.raw_window = None
    lo.run()
    assert client.established


# -- Who speaks --


def test_names_protocols_versions(lo: Loopback, material: Material) -> None:
    context = material.trusting()
    context.check_hostname = True
    client = lo.connect(tls=Tls(context, server_name="localhost"))
    old = lo.connect(tls=Tls(maximum=ssl.TLSVersion.TLSv1_2, alpn=("h2", "http/1.1")))
    refused = lo.connect(tls=Tls(alpn=("h2",)))
    lo.run()
    assert client.established
    assert client.object.getpeercert()
    assert old.object.version() == "TLSv1.2"
    assert old.object.selected_alpn_protocol() == "http/1.1"
    assert refused.failure is not None
    assert "no application protocol" in str(refused.failure)
    assert refused.closed == "fin"


def test_a_client_that_does_not_trust(lo: Loopback) -> None:
    client = lo.connect(tls=Tls(strict(), server_name="localhost"))
    lo.run()
    assert isinstance(client.failure, ssl.SSLCertVerificationError)
    assert client.closed == "fin"


def strict() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def test_a_client_certificate(material: Material) -> None:
    app = make_app(material.options(ca_file_name=str(material.ca)))
    with pytest.raises(LoopbackViolation, match="CERTIFICATE_REQUIRED"):
        app.feed(GET)
    with Loopback(app, tls=Tls(certificate=str(material.client))) as lo:
        assert lo.request("GET", "/scheme").body == b"https"
        strange = lo.connect(tls=Tls(certificate=str(material.strange_client)))
        lo.run()
        assert strange.failure is not None
        assert strange.closed
        assert lo.feed(GET).endswith(b"x" * 10)


def subject(client: TlsConnection) -> str:
    """Return the name that the server's certificate is for, besides those that all of them have."""
    certificate = client.object.getpeercert()
    assert certificate is not None
    names = [value for _, value in certificate["subjectAltName"]]  # type: ignore[misc,index]
    return str(names[-1])


def test_server_names(material: Material) -> None:
    app = make_app(material.options())
    other = material.options(key_file_name=str(material.other_key), cert_file_name=str(material.other_certificate))
    app.add_server_name("a.example", other)
    app.domain("b.example").get("/", lambda res, req: res.end("b"))
    asked: list[str] = []

    def missing(name: str) -> None:
        asked.append(name)
        if name.startswith("late"):
            app.add_server_name(name, other)

    app.missing_server_name(missing)
    with Loopback(app) as lo:
        clients = {name: lo.connect(tls=Tls(server_name=name)) for name in ("a.example", "b.example", "late.example")}
        lo.run()
        assert [subject(client) for client in clients.values()] == ["other.example", "server.example", "other.example"]
        assert asked == ["b.example", "late.example"]
        clients["b.example"].send(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        app.remove_server_name("a.example")
        app.add_server_name("c.example", other)
        again = {name: lo.connect(tls=Tls(server_name=name)) for name in ("a.example", "c.example", "late.example")}
        lo.run()
        assert [subject(client) for client in again.values()] == ["server.example", "other.example", "other.example"]
        assert clients["b.example"].recv().endswith(b"\r\n\r\nb")
        lo.check()


def test_what_a_missing_name_raises_is_an_error_of_the_app(material: Material) -> None:
    app = make_app(material.options())

    def missing(name: str) -> None:
        raise LookupError(name)

    app.missing_server_name(missing)
    with Loopback(app) as lo:
        client = lo.connect(tls=Tls(server_name="a.example"))
        lo.run()
        assert client.failure is not None
        assert [type(error) for error in lo.errors] == [LookupError]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(lo: Loopback, version: ssl.TLSVersion) -> None:
    first = lo.connect(tls=Tls(maximum=version))
    lo.run()
    second = lo.connect(tls=Tls(maximum=version, session=first.session))
    lo.run()
    assert second.object.session_reused
    assert not first.object.session_reused
    assert lo.trace[-1][2].endswith(" resumed")


def test_wrong_words_are_refused(lo: Loopback, material: Material) -> None:
    with pytest.raises(ValueError, match="context"):
        Tls(strict(), alpn=("h2",))
    with pytest.raises(ValueError, match="piece"):
        Tls(pieces=(0,))
    with pytest.raises(TypeError, match="sequence"):
        Tls(alpn="h2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tls must be"):
        lo.connect(tls="yes")  # type: ignore[call-overload]
    before = len(lo.connections)
    with pytest.raises(ValueError, match="server_hostname"):
        lo.connect(tls=Tls(server_name=""))
    with pytest.raises(FileNotFoundError):
        lo.connect(tls=Tls(certificate="/nowhere"))
    assert len(lo.connections) == before
    with pytest.raises(TlsError, match="expired"):
        Loopback(make_app(AppOptions(str(material.expired_key), str(material.expired))))


# -- The same on each run --

PROGRAM = """
import random, sys
sys.path.insert(0, {folder!r})
from corkbind import AppOptions
from corkbind.testing import Loopback, Tls
from test_loopback_tls import make_app

app = make_app(AppOptions({key!r}, {certificate!r}))
for number in range({count}):
    lo = Loopback(app, choices=random.Random(number).randbytes(150))
    lo.drive(60)
    lo.advance(20)
    print(lo.digest())
    lo.close()
"""


def digests(material: Material, seed: str, count: int) -> list[str]:
    folder = os.path.dirname(__file__)
    program = PROGRAM.format(folder=folder, key=str(material.key), certificate=str(material.certificate), count=count)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_another_process_with_another_hash_seed_has_the_same_digests(material: Material) -> None:
    count = 60
    first = digests(material, "1", count)
    assert len(set(first)) > count // 2
    assert digests(material, "4711", count) == first


def test_driven_sessions_break_no_rule(app: App) -> None:
    with Loopback(app, seed=3) as lo:
        for _ in range(10):
            lo.drive(40).advance(60)
            lo.check()
            lo.reset()
