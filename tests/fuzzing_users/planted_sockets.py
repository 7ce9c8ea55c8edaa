"""Hold routes for WebSockets with a mistake of each kind; `/sound` and `/later` have none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from corkbind import App, ConnectionClosed, HttpRequest, HttpResponse, OpCode, WebSocket

rare, stateful, closing, leaking, spinning, reading, sound = App(), App(), App(), App(), App(), App(), App()


# -- A message that is rare --


def vote(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    try:
        vote = json.loads(message)
    except (ValueError, RecursionError):
        ws.end(1007, "no JSON")
        return
    if not isinstance(vote, dict):
        ws.end(1003)
    elif vote.get("action") == "cast" and vote.get("ballot") == "blank":
        ws.send({"cast": vote["weight"]})
    else:
        ws.send({"known": sorted(str(key) for key in vote)})


rare.ws("/votes/:room", message=vote)


# -- What one client leaves to the next --

names: list[str] = []


class Greeter:
    """Tell who is there, also those who have left."""

    def open(self, ws: WebSocket) -> None:
        names.append(f"guest {len(names)}")

    def message(self, ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if message == "who":
            ws.send(", ".join(names[-3:]))


stateful.ws("/greet", Greeter)


# -- A close handler that raises --

members: dict[int, str] = {}


def join(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    members[ws.handle] = "member"
    if message == "leave":
        del members[ws.handle]


def goodbye(ws: WebSocket, code: int, reason: str) -> None:
    if code == 1006 or ws.handle in members:
        del members[ws.handle]


closing.ws("/club", message=join, close=goodbye)


# -- Tasks that stay, turns without end, refusals that were not meant --


def watch(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    if message == "watch":
        leaking.run_async(asyncio.Event().wait())


def spin(ws: WebSocket) -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()


leaking.ws("/watch", message=watch)
spinning.ws("/spin", open=spin)
leaking.ws("/gives-up", message=lambda ws, message, opcode: ws.end(1011, "something is wrong"))


# -- Answers that depend on the reads --


def collect(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    waiting = ws.__dict__.setdefault("waiting", [])
    waiting.append(message)
    if len(waiting) == 1:

        def flush() -> None:
            ws.send({"together": len(waiting)})
            waiting.clear()

        asyncio.get_running_loop().call_soon(flush)


reading.ws("/collect", message=collect)


# -- Nothing wrong --


def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


async def later(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    await asyncio.sleep(0)
    ws.send(f"{opcode.name} of {len(message)}")
    await asyncio.sleep(1)
    ws.send("done")


def enter(res: HttpResponse, req: HttpRequest, context: Any) -> None:
    if req.get_query("token") == "bad":
        res.write_status(403).end("who are you?")
    else:
        context.accept(res, user_data=req.get_parameter("room"))


async def ticks(ws: WebSocket) -> None:
    try:
        for number in range(5):
            ws.send({"tick": number})
            await asyncio.sleep(1)
        ws.end(4000, "no more")
    except ConnectionClosed:
        return


sound.ws("/echo/:room", upgrade=enter, message=echo, open=lambda ws: ws.send({"room": ws.get_user_data()}))
sound.ws("/later", message=later, ping=lambda ws, data: None, close=lambda ws, code, reason: None)
sound.ws("/ticks", open=ticks, idle_timeout=8)


@sound.get("/")
def root(res: HttpResponse, req: HttpRequest) -> None:
    res.end("hello")
