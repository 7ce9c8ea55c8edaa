"""Serve handlers that signals arrive in: `app_load.py [asyncio|uvloop] [grace]`."""

from __future__ import annotations

import asyncio
import sys

from corkbind import App, HttpRequest, HttpResponse

PARTS = 20
app = App()
parked: list[HttpResponse] = []


@app.get("/quick")
def quick(res: HttpResponse, req: HttpRequest) -> None:
    """Answer at once."""
    res.end("quick")


@app.get("/late")
async def late(res: HttpResponse, req: HttpRequest) -> None:
    """Answer after a wait."""
    await asyncio.sleep(0.02)
    res.end("late")


@app.get("/stream")
async def stream(res: HttpResponse, req: HttpRequest) -> None:
    """Answer in parts, with waits between them."""
    for number in range(PARTS):
        res.write(b"%d" % (number % 10) * 1000)
        await asyncio.sleep(0.002)
    res.end()


@app.get("/large")
async def large(res: HttpResponse, req: HttpRequest) -> None:
    """Answer with more than the kernel takes at once."""
    await res.send_chunk(b"z" * 4_000_000, 4_000_000)


@app.post("/echo")
async def echo(res: HttpResponse, req: HttpRequest) -> None:
    """Give the body back."""
    res.end(await req.body())


@app.get("/never")
async def never(res: HttpResponse, req: HttpRequest) -> None:
    """Wait until cancelled."""
    print("never", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled", flush=True)


@app.get("/park")
def park(res: HttpResponse, req: HttpRequest) -> None:
    """Leave it to nobody."""
    parked.append(res)
    print("parked", flush=True)


ENDS = {"interrupt": KeyboardInterrupt, "exit": lambda: SystemExit(3)}


@app.get("/:kind/plain")
def ends(res: HttpResponse, req: HttpRequest) -> None:
    """End the program from a plain function."""
    raise ENDS[req.get_parameter("kind") or ""]()


@app.get("/:kind/coroutine")
async def ends_at_once(res: HttpResponse, req: HttpRequest) -> None:
    """End the program in the first segment."""
    raise ENDS[req.get_parameter("kind") or ""]()


@app.get("/:kind/waited")
async def ends_later(res: HttpResponse, req: HttpRequest) -> None:
    """End the program after a wait."""
    await asyncio.sleep(0.001)
    raise ENDS[req.get_parameter("kind") or ""]()


@app.post("/:kind/data")
def ends_in_data(res: HttpResponse, req: HttpRequest) -> None:
    """End the program in a callback."""
    kind = req.get_parameter("kind") or ""

    def fail(res: HttpResponse, chunk: bytes, last: bool) -> None:
        raise ENDS[kind]()

    res.on_data(fail)


@app.on_shutdown
async def on_shutdown() -> None:
    """Show that the end is in order."""
    await asyncio.sleep(0)
    print("on_shutdown", flush=True)


def main() -> None:
    """Serve on a free port."""
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
    grace = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    app.run(loop=sys.argv[1] if len(sys.argv) > 1 else "asyncio", grace=grace)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
