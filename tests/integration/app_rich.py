"""Offer what clients of all kinds ask for: `app_rich.py [asyncio|uvloop]`."""

from __future__ import annotations

import asyncio
import hashlib
import sys

from corkbind import App, HttpRequest, HttpResponse, Limits

app = App(limits=Limits(body=64 * 1024 * 1024))


@app.any("/echo")
async def echo(res: HttpResponse, req: HttpRequest) -> None:
    """Give the body back."""
    res.write_header("X-Method", req.get_method())
    res.write_header("X-Connection", str(req.get_remote_port()))
    res.send(await req.body(), req.get_header("content-type") or "application/octet-stream")


@app.any("/count")
def count(res: HttpResponse, req: HttpRequest) -> None:
    """Say what came, without ever holding it."""
    digest, size, parts = hashlib.sha256(), 0, 0

    def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
        nonlocal size, parts
        digest.update(chunk)
        size += len(chunk)
        parts += 1
        if last:
            res.json({"size": size, "sha256": digest.hexdigest(), "parts": parts})

    res.on_data(take)


@app.get("/stream/:parts/:size")
async def stream(res: HttpResponse, req: HttpRequest) -> None:
    """Send a body in parts, each filled with the digit of its number."""
    parts, size = (int(text) for text in req.get_parameters())
    for number in range(parts):
        res.write(b"%d" % (number % 10) * size)
        await res.drain()
    res.end()


@app.get("/large/:size")
async def large(res: HttpResponse, req: HttpRequest) -> None:
    """Send a large body at the client's pace."""
    await res.send_chunk(b"z" * int(req.get_parameter("size") or 0), int(req.get_parameter("size") or 0))


@app.get("/redirect/:left")
def redirect(res: HttpResponse, req: HttpRequest) -> None:
    """Send the client on until nothing is left."""
    left = int(req.get_parameter("left") or 0)
    if left:
        res.redirect(f"/redirect/{left - 1}", 302 if left % 2 else 307)
    else:
        res.end("arrived")


@app.get("/login")
def login(res: HttpResponse, req: HttpRequest) -> None:
    """Set two cookies and send the client on."""
    res.set_cookie("session", "abc123", path="/", httponly=True).set_cookie("theme", "dark")
    res.redirect("/cookies")


@app.get("/cookies")
def cookies(res: HttpResponse, req: HttpRequest) -> None:
    """Tell the cookies."""
    res.json(req.get_cookies())


@app.post("/form")
async def form(res: HttpResponse, req: HttpRequest) -> None:
    """Read an HTML form."""
    res.json(await req.form())


@app.any("/json")
async def double(res: HttpResponse, req: HttpRequest) -> None:
    """Read and write JSON."""
    await asyncio.sleep(0)
    res.json({"got": await req.json(), "type": req.get_header("content-type")})


@app.get("/status/:code")
def status(res: HttpResponse, req: HttpRequest) -> None:
    """Answer with a status."""
    res.write_status(int(req.get_parameter("code") or 200)).end(None)


@app.get("/query")
def query(res: HttpResponse, req: HttpRequest) -> None:
    """Tell what the query holds."""
    res.json(req.get_queries())


@app.get("/version")
def version(res: HttpResponse, req: HttpRequest) -> None:
    """Tell which HTTP the client speaks."""
    res.end("1.0" if req.is_ancient() else "1.1")


@app.post("/refuse")
def refuse(res: HttpResponse, req: HttpRequest) -> None:
    """Answer without reading the body."""
    res.write_status(403).end("not for you")


def main() -> None:
    """Serve on a free port."""
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
    app.run(loop=sys.argv[1] if len(sys.argv) > 1 else "asyncio")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
