"""Starts a peer's server on its core, asks it for right answers, and counts its CPU time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import trustme

HERE = Path(__file__).parent
FILES = HERE.parents[1] / "build" / "bench" / "files"
FILE_SIZE = 100 * 1024 * 1024
CERTIFICATES = HERE.parents[1] / "build" / "bench" / "tls"
ENCRYPTED = "-tls"  # ends the name of a peer that speaks TLS; the rest says whose server it is
AGREED = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")  # what all must come to, so that none has a cheaper cipher
START_SECONDS = 15
TICK = os.sysconf("SC_CLK_TCK")


class PeerError(Exception):
    """Why a peer, or one case of it, cannot be measured."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def process_tree(root: int) -> list[int]:
    """Returns the process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended while we looked
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    tree = [root]
    for pid in tree:
        tree += children.get(pid, [])
    return tree


def cpu_seconds(pids: list[int]) -> float:
    """Returns the user and system time of the processes, threads that ended included."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


class Server:
    """One peer's server process, stopped (SIGSTOP) whenever it is not its turn."""

    def __init__(self, name: str, core: int | None):
        self.name = name
        self.port = free_port()
        self.log = HERE.parents[1] / "build" / "bench" / f"{name}.log"
        plain = name.removesuffix(ENCRYPTED)
        self.context = trusting() if name != plain else None
        environment = {**os.environ, "BENCH_TLS": str(CERTIFICATES) if self.context else ""}
        command = [sys.executable, f"{plain}_server.py", str(self.port)]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=HERE / "servers",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.wait_until_ready()
        self.tree = process_tree(self.process.pid)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("GET", "/")
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        self.end()
        raise PeerError(f"did not start: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def get(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        connection: http.client.HTTPConnection
        if self.context:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=self.context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        self.resume()
        self.signal(signal.SIGKILL)
        self.process.wait()


def make_certificates() -> None:
    """Makes the certificate of the servers that speak TLS, and that of its authority."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    leaf.private_key_pem.write_to_path(str(CERTIFICATES / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(CERTIFICATES / "certificate.pem"))
    authority.cert_pem.write_to_path(str(CERTIFICATES / "authority.pem"))


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")


def check_cipher(server: Server) -> None:
    if server.context is None:
        return
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        server.context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        expect("TLS", (encrypted.version(), (encrypted.cipher() or ("none",))[0]), AGREED)


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise PeerError(f"{what}: {str(got)[:80]!r} where {str(wanted)[:80]!r} was expected")


def check_text(server: Server, path: str) -> None:
    status, _, body = server.get("GET", path)
    expect(path, (status, body), (200, b"Hello, World!"))


def check_user(server: Server, path: str) -> None:
    status, headers, body = server.get("GET", path)
    expect(path, (status, json.loads(body)), (200, {"id": "42", "name": "Ada"}))
    expect(path, (headers.get("x-request-id"), headers.get("cache-control")), ("5f3a9c", "no-store"))
    expect(path, headers.get("content-type", "").split(";")[0], "application/json")


def check_written(server: Server, path: str) -> None:
    status, headers, body = server.get("GET", path)
    expect(path, (status, body), (201, b"Hello, World!"))
    wanted = {"content-type": "text/plain", "cache-control": "no-store", "x-request-id": "5f3a9c", "x-frame-options": "DENY"}
    expect(path, {name: headers.get(name) for name in wanted}, wanted)


def check_down(server: Server, path: str) -> None:
    status, _, body = server.get("GET", path)
    expect(path, (status, len(body)), (200, 65536))


def make_file(path: Path) -> None:
    """Makes the file that the case `file` sends, if it is not there."""
    if not path.exists() or path.stat().st_size != FILE_SIZE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1 << 20) * (FILE_SIZE >> 20))


def check_file(server: Server, path: str) -> None:
    status, headers, body = server.get("GET", path)
    expect(path, (status, len(body), "etag" in headers), (200, FILE_SIZE, True))
    expect(path, body == (FILES / "large").read_bytes(), True)


def check_up(server: Server, path: str) -> None:
    status, _, body = server.get("POST", path, b"x" * 65536)
    expect(path, (status, body), (200, b"65536"))


def check_pipelined(server: Server, path: str) -> None:
    """Sends 16 requests in one packet and reads 16 answers."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 16)
        received = b""
        while received.count(b"Hello, World!") < 16:
            part = connection.recv(65536)
            if not part:
                raise PeerError(f"closed after {received.count(b'Hello, World!')} of 16 pipelined requests")
            received += part
