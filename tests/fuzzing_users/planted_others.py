"""Hold a route for each of the other kinds of finding."""

from __future__ import annotations

import asyncio
import random

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/random")
def dice(res: HttpResponse, req: HttpRequest) -> None:
    res.end(str(random.random()))


@app.post("/parts")
def parts(res: HttpResponse, req: HttpRequest) -> None:
    seen: list[int] = []

    def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
        seen.append(len(chunk))
        if last:
            res.end(str(seen))

    res.on_data(take)


@app.get("/leak")
def leak(res: HttpResponse, req: HttpRequest) -> None:
    app.run_async(asyncio.Event().wait())  # type: ignore[arg-type]
    res.end("ok")


@app.get("/spin")
def spin(res: HttpResponse, req: HttpRequest) -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    res.end("ok")


@app.get("/busy")
def busy(res: HttpResponse, req: HttpRequest) -> None:
    res.write_status(503).end("come back later")
