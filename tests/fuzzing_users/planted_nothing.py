"""Hold an app without a mistake, with some of everything: nothing may be found in it."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/")
def root(res: HttpResponse, req: HttpRequest) -> None:
    res.end("Hello")


@app.get("/users/:id")
async def user(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0.1)
    identity = req.get_parameter("id") or ""
    if not (identity.isascii() and identity.isdigit()):
        res.write_status(404).end("no such user")
        return
    res.json({"id": identity, "verbose": req.get_query("verbose") == "1"})


@app.any("/echo")
async def echo(res: HttpResponse, req: HttpRequest) -> None:
    body = await req.body()
    res.write_header("X-Agent", req.get_header("user-agent") or "none").end(body)


@app.post("/json")
async def take_json(res: HttpResponse, req: HttpRequest) -> None:
    value = await req.json()
    res.json({"keys": len(value) if isinstance(value, dict) else None})


@app.post("/form")
async def form(res: HttpResponse, req: HttpRequest) -> None:
    fields = await req.form()
    res.write_header("Location", "/search?q=" + quote(fields.get("q", [""])[0], safe="", errors="replace"))
    res.write_status(303).end()


@app.get("/stream")
async def stream(res: HttpResponse, req: HttpRequest) -> None:
    for number in range(5):
        res.write(f"part {number}\n")
        await asyncio.sleep(1)
    res.end()


@app.delete("/gone/*")
def gone(res: HttpResponse, req: HttpRequest) -> None:
    res.write_status(204).end()
