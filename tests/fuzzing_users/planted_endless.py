"""Hold an app whose answers sometimes never end: one that is never given, one that breaks off."""

from __future__ import annotations

import asyncio

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/jobs/:id")
async def job(res: HttpResponse, req: HttpRequest) -> None:
    if req.get_query("wait") == "yes":
        await asyncio.Event().wait()
    res.end("done")


kept: list[HttpResponse] = []


@app.get("/log")
def log(res: HttpResponse, req: HttpRequest) -> None:
    res.write("first line\n")
    if req.get_query("follow"):
        kept[:] = [res]
        res.on_aborted(lambda *_: kept.clear())
        return
    res.end()
