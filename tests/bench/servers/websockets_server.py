"""The benchmark's WebSockets on websockets, with uvloop."""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import broadcast, serve

subscribers = set()


async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)


async def subscribe(websocket):
    subscribers.add(websocket)
    try:
        await websocket.wait_closed()
    finally:
        subscribers.discard(websocket)


async def publish(websocket):
    async for message in websocket:
        broadcast(subscribers, message)


ROUTES = {"echo": echo, "fan": subscribe, "publish": publish}


async def handle(websocket):
    await ROUTES[websocket.request.path.rpartition("/")[2]](websocket)


def answer(connection, request):
    """Answers what is no WebSocket, as the benchmark does to see whether the server is there."""
    return connection.respond(200, "Hello, World!") if request.path == "/" else None


async def main():
    async with serve(handle, "127.0.0.1", int(sys.argv[1]), process_request=answer, max_size=1 << 20) as server:
        await server.serve_forever()


uvloop.install()
asyncio.run(main())
