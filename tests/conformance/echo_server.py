"""Send every WebSocket message back as it came: `echo_server.py [--help]`, on a free port.

A plain handler, which is called as the message comes, and answers compressed where that has
been agreed on. Messages may be as long as the longest that conformance suites send, and what
waits for a client stays: an echo that is dropped would be one that failed.
"""

from __future__ import annotations

import argparse

from corkbind import App, AppListenOptions, CompressOptions, WebSocket

COMPRESSION = {
    "dedicated": CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR,
    "shared": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
}
LONGEST = 64 * 1024 * 1024


def echo(ws: WebSocket, message: str | bytes, opcode: int) -> None:
    """Send it back as the kind that it is."""
    ws.send(message, opcode, compress=True)


def announce(where: AppListenOptions) -> None:
    """Print the address, which who started it waits for."""
    print(f"listening on http://{where.host}:{where.port}", flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
parser.add_argument("--compression", default="dedicated", choices=COMPRESSION, help="the windows")
options = parser.parse_args()

app = App()
app.ws("/", message=echo, compression=COMPRESSION[options.compression], max_payload_length=LONGEST, max_backpressure=0)
app.listen({"host": "127.0.0.1", "port": 0}, announce)
app.run(loop=options.loop)
