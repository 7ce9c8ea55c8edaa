"""The benchmark's routes on aiohttp, with uvloop."""

import asyncio
import sys

import uvloop
from aiohttp import web

BODY = b"x" * 65536


async def text(request):
    return web.Response(text="Hello, World!")


async def wait(request):
    await asyncio.sleep(0)
    return web.Response(text="Hello, World!")


async def user(request):
    headers = {"X-Request-Id": "5f3a9c", "Cache-Control": "no-store"}
    return web.json_response({"id": request.match_info["id"], "name": "Ada"}, headers=headers)


async def down(request):
    return web.Response(body=BODY)


async def up(request):
    return web.Response(text=str(len(await request.read())))


app = web.Application()
app.add_routes([web.get("/", text), web.get("/async", text), web.get("/wait", wait)])
app.add_routes([web.get("/users/{id}", user), web.get("/down", down), web.post("/up", up)])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
