"""The benchmark's routes on uvicorn: a raw ASGI application, uvloop and httptools."""

import asyncio
import json
import os
import sys

import uvicorn

BODY = b"x" * 65536
TEXT = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def answer(send, body, headers):
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def text(scope, receive, send):
    await answer(send, b"Hello, World!", TEXT)


async def wait(scope, receive, send):
    await asyncio.sleep(0)
    await answer(send, b"Hello, World!", TEXT)


async def user(scope, receive, send):
    body = json.dumps({"id": scope["path"][7:], "name": "Ada"}).encode()
    headers = [(b"x-request-id", b"5f3a9c"), (b"cache-control", b"no-store"), (b"content-type", b"application/json")]
    await answer(send, body, [*headers, (b"content-length", b"%d" % len(body))])


async def down(scope, receive, send):
    await answer(send, BODY, [(b"content-type", b"application/octet-stream"), (b"content-length", b"65536")])


async def up(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    await answer(send, body, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))])


ROUTES = {"/": text, "/async": text, "/wait": wait, "/down": down, "/up": up}


async def app(scope, receive, send):
    path = scope["path"]
    handler = user if path.startswith("/users/") else ROUTES[path]
    await handler(scope, receive, send)


if __name__ == "__main__":
    options = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "access_log": False, "log_level": "warning"}
    if tls := os.environ.get("BENCH_TLS"):
        options |= {"ssl_keyfile": f"{tls}/key.pem", "ssl_certfile": f"{tls}/certificate.pem"}
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **options)
