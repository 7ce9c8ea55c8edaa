"""Measure the memory of idle TLS connections: resident bytes of the server for each (TL-29).

    python tests/soak/tls_idle.py --connections 2000 --servers corkbind,uvicorn

The server is a process of its own, with a certificate made on the spot. A few connections
come and go first, so that what the first of them costs is not counted. Then each makes its
handshake, is answered once, and stays. The exit status is 1 when one of corkbind's costs
more than the goal.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

ROOT = Path(__file__).resolve().parents[2]
GOAL = 20 * 1024  # 13.3 KiB measured; buffers that stay would be 34 more, as OpenSSL's manual says
WARM_UP = 200
PAGE = resource.getpagesize()
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SERVERS = {
    "corkbind": """
import sys
from corkbind import App, AppOptions, Limits
app = App(AppOptions(key_file_name=sys.argv[1], cert_file_name=sys.argv[1]), limits=Limits(idle_seconds=0))
app.get("/", lambda res, req: res.end("hello"))
app.listen({"host": "127.0.0.1", "port": 0}, lambda where: print(where.port, flush=True))
app.run()
""",
    "uvicorn": """
import asyncio, socket, sys, uvicorn
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, ssl_keyfile=sys.argv[1], ssl_certfile=sys.argv[1], log_level="error", timeout_keep_alive=3600)
asyncio.run(uvicorn.Server(config).serve([listener]))
""",
}


@contextlib.contextmanager
def server(name: str, material: Path) -> Iterator[tuple[int, int]]:
    """Run a server; give its process and port."""
    command = [sys.executable, "-c", SERVERS[name], str(material)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds, when it has come to rest."""
    before = -1
    while (now := int(Path(f"/proc/{pid}/statm").read_text().split()[1])) != before:
        before = now
        time.sleep(0.2)
    return now * PAGE


def answered(connection: ssl.SSLSocket) -> ssl.SSLSocket:
    """Ask once, and return the connection."""
    connection.sendall(REQUEST)
    heard = b""
    while not heard.endswith(b"hello"):
        more = connection.recv(4096)
        assert more, heard
        heard += more
    return connection


def connected(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection that has been answered once."""
    return answered(context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost"))


def measure(name: str, connections: int, material: Path, context: ssl.SSLContext) -> float:
    """Print what a server holds for each idle connection, and return it."""
    with server(name, material) as (pid, port):
        for connection in [connected(port, context) for _ in range(WARM_UP)]:
            connection.close()
        begun = resident(pid)
        held = [connected(port, context) for _ in range(connections)]
        each = (resident(pid) - begun) / connections
        for connection in held:
            answered(connection).close()  # none of them had gone
    print(f"{name}: {begun / 2**20:.1f} MiB before; {each:,.0f} bytes for each of {connections} idle TLS connections")
    return each


def main() -> int:
    """Measure one server or more."""
    parser = argparse.ArgumentParser(description="Memory of idle TLS connections.")
    parser.add_argument("--connections", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["corkbind"], help="corkbind, uvicorn; corkbind")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        material = Path(folder) / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(material))
        for name in options.servers:
            failed |= measure(name, options.connections, material, context) > GOAL and name == "corkbind"
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
