"""The benchmark's routes on socketify, with TLS where BENCH_TLS names the certificates."""

import asyncio
import os
import sys

from socketify import App, AppListenOptions, AppOptions, CompressOptions

BODY = b"x" * 65536
TLS = os.environ.get("BENCH_TLS")
app = App(AppOptions(key_file_name=f"{TLS}/key.pem", cert_file_name=f"{TLS}/certificate.pem") if TLS else None)
waiting = set()


def text(res, req):
    res.end("Hello, World!")


def user(res, req):
    res.write_header("X-Request-Id", "5f3a9c")
    res.write_header("Cache-Control", "no-store")
    res.end({"id": req.get_parameter(0), "name": "Ada"})


async def coroutine(res, req):
    res.end("Hello, World!")


async def wait(res, req):
    await asyncio.sleep(0)
    res.cork_end("Hello, World!")  # as its documentation advises after an await: `end` costs 15 sends here


async def written(res, req):
    await asyncio.sleep(0)
    res.write_status("201 Created")
    res.write_header("Content-Type", "text/plain")
    res.write_header("Cache-Control", "no-store")
    res.write_header("X-Request-Id", "5f3a9c")
    res.write_header("X-Frame-Options", "DENY")
    res.end("Hello, World!")


def down(res, req):
    res.end(BODY)


async def up(res, req):
    waiting.add(res)  # nothing else holds it: without this the garbage collector takes it and the process aborts
    body = await res.get_data()
    waiting.discard(res)
    res.cork_end(str(len(body.getbuffer())))


def echo(ws, message, opcode):
    ws.send(message, opcode)


def echo_compressed(ws, message, opcode):
    ws.send(message, opcode, True)


def publish(ws, message, opcode):
    app.publish("all", message, opcode)


def publish_compressed(ws, message, opcode):
    app.publish("compressed", message, opcode, True)


LIMITS = {"max_payload_length": 1 << 20, "max_backpressure": 4 << 20}
DEFLATE = {**LIMITS, "compression": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR}
app.ws("/echo", {"message": echo, **LIMITS})
app.ws("/fan", {"open": lambda ws: ws.subscribe("all"), **LIMITS})
app.ws("/publish", {"message": publish, **LIMITS})
app.ws("/deflate/echo", {"message": echo_compressed, **DEFLATE})
app.ws("/deflate/fan", {"open": lambda ws: ws.subscribe("compressed"), **DEFLATE})
app.ws("/deflate/publish", {"message": publish_compressed, **DEFLATE})
app.get("/", text)
app.get("/users/:id", user)
app.get("/async", coroutine)
app.get("/wait", wait)
app.get("/written", written)
app.get("/down", down)
app.post("/up", up)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
