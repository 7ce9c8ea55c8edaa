"""Serve an app whose routes write in different ways, with the inspector: `app_inspector.py asyncio [interval]`."""

from __future__ import annotations

import asyncio
import sys

from corkbind import App, Fixed, HttpRequest, HttpResponse


def make_app() -> App:
    app = App()

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("Cache-Control", "no-store").end("<h1>home</h1>")

    @app.get("/users/:id")
    async def user(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_status(200).write_header("X-User", req.get_parameter("id") or "").json({"id": req.get_parameter("id")})

    @app.get("/report")
    async def report(res: HttpResponse, req: HttpRequest) -> None:
        for part in range(3):
            res.write(f"part {part} " + "x" * 2000)
            await asyncio.sleep(0.001)
        res.end()

    @app.get("/picture")
    def picture(res: HttpResponse, req: HttpRequest) -> None:
        res.send(b"\x89" * 60_000, "image/png")

    @app.post("/orders")
    async def orders(res: HttpResponse, req: HttpRequest) -> None:
        await req.body()
        res.write_status(201).write_header("Location", "/orders/17").end("taken")

    @app.get("/price")
    def price(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_soon(lambda: res.write_status(200).write_header("X-Price", "7").end("7"))

    @app.get("/unlucky")
    def unlucky(res: HttpResponse, req: HttpRequest) -> None:
        res.write("half of ")
        raise LookupError("no such luck")

    @app.get("/slow")
    async def slow(res: HttpResponse, req: HttpRequest) -> None:
        res.write(b"s" * 12_000_000)
        await asyncio.sleep(3600)

    app.on_error(lambda error, res, req: res.write_status(503).end("not now"))
    app.get("/health", Fixed("fine"))
    return app


def main() -> None:
    app = make_app().inspect("/_cork", interval=float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
    app.run(loop=sys.argv[1], grace=1)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
