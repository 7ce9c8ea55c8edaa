"""The benchmark's routes on corkbind, with TLS where BENCH_TLS names the certificates."""

import asyncio
import os
import sys
from pathlib import Path

from corkbind import App, AppOptions, CompressOptions

BODY = b"x" * 65536
FILES = Path(__file__).resolve().parents[3] / "build" / "bench" / "files"
TLS = os.environ.get("BENCH_TLS")
app = App(AppOptions(key_file_name=f"{TLS}/key.pem", cert_file_name=f"{TLS}/certificate.pem") if TLS else None)
app.static("/files", FILES)


@app.get("/")
def text(res, req):
    res.end("Hello, World!")


@app.get("/users/:id")
def user(res, req):
    res.write_header("X-Request-Id", "5f3a9c").write_header("Cache-Control", "no-store")
    res.end({"id": req.get_parameter(0), "name": "Ada"})


@app.get("/async")
async def coroutine(res, req):
    res.end("Hello, World!")


@app.get("/wait")
async def wait(res, req):
    await asyncio.sleep(0)
    res.end("Hello, World!")


@app.get("/written")
async def written(res, req):
    await asyncio.sleep(0)
    res.write_status(201)
    res.write_header("Content-Type", "text/plain")
    res.write_header("Cache-Control", "no-store")
    res.write_header("X-Request-Id", "5f3a9c")
    res.write_header("X-Frame-Options", "DENY")
    res.end("Hello, World!")


@app.get("/down")
def down(res, req):
    res.end(BODY)


@app.post("/up")
async def up(res, req):
    body = await res.get_data()
    res.end(str(len(body.getbuffer())))


def echo(ws, message, opcode):
    ws.send(message, opcode)


def echo_compressed(ws, message, opcode):
    ws.send(message, opcode, compress=True)


def publish(ws, message, opcode):
    app.publish("all", message, opcode)


def publish_compressed(ws, message, opcode):
    app.publish("compressed", message, opcode, compress=True)


LIMITS = {"max_payload_length": 1 << 20, "max_backpressure": 4 << 20}
app.ws("/echo", message=echo, **LIMITS)
app.ws("/fan", open=lambda ws: ws.subscribe("all"), **LIMITS)
app.ws("/publish", message=publish, **LIMITS)
DEFLATE = {**LIMITS, "compression": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR}
app.ws("/deflate/echo", message=echo_compressed, **DEFLATE)
app.ws("/deflate/fan", open=lambda ws: ws.subscribe("compressed"), **DEFLATE)
app.ws("/deflate/publish", message=publish_compressed, **DEFLATE)


def main(loop="asyncio"):
    app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
    app.run(loop=loop)


if __name__ == "__main__":
    main()
