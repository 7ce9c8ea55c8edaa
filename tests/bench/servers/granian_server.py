"""The benchmark's routes on granian: its own RSGI interface, one worker, uvloop."""

import asyncio
import json
import sys

from granian import Granian
from granian.constants import Interfaces, Loops

BODY = b"x" * 65536
TEXT = [("content-type", "text/plain")]


async def text(scope, protocol):
    protocol.response_str(200, TEXT, "Hello, World!")


async def wait(scope, protocol):
    await asyncio.sleep(0)
    protocol.response_str(200, TEXT, "Hello, World!")


async def user(scope, protocol):
    body = json.dumps({"id": scope.path[7:], "name": "Ada"})
    headers = [("x-request-id", "5f3a9c"), ("cache-control", "no-store"), ("content-type", "application/json")]
    protocol.response_str(200, headers, body)


async def down(scope, protocol):
    protocol.response_bytes(200, [("content-type", "application/octet-stream")], BODY)


async def up(scope, protocol):
    body = await protocol()
    protocol.response_str(200, TEXT, str(len(body)))


ROUTES = {"/": text, "/async": text, "/wait": wait, "/down": down, "/up": up}


async def app(scope, protocol):
    handler = user if scope.path.startswith("/users/") else ROUTES[scope.path]
    await handler(scope, protocol)


if __name__ == "__main__":
    port = int(sys.argv[1])
    target = "granian_server:app"
    Granian(target, port=port, interface=Interfaces.RSGI, loop=Loops.uvloop, websockets=False, log_enabled=False).serve()
