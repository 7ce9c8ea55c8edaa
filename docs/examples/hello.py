"""Show the kinds of handler: plain, with a parameter, waiting, streaming.

python docs/examples/hello.py --port 8000
"""

from __future__ import annotations

import argparse
import asyncio

from corkbind import App, AppListenOptions, HttpRequest, HttpResponse

app = App()

ROUTES = {
    "/": "plain text",
    "/users/:id": "JSON with a path parameter",
    "/slow": "a coroutine that waits before it answers",
    "/stream": "a body in parts",
}


@app.get("/")
def hello(res: HttpResponse, req: HttpRequest) -> None:
    """Answer with text: one callback in, one call out."""
    res.end("Hello from corkbind\n")


@app.get("/users/:id")
def user(res: HttpResponse, req: HttpRequest) -> None:
    """Answer with JSON; try /users/42?verbose=1."""
    res.json({"id": req.get_parameter("id"), "verbose": req.get_query("verbose") is not None})


@app.get("/slow")
async def slow(res: HttpResponse, req: HttpRequest) -> None:
    """Wait, then write three times: it leaves in one send all the same."""
    await asyncio.sleep(0.1)
    res.write_header("Content-Type", "text/plain")
    res.write_header("X-Agent", req.get_header("user-agent") or "none")
    res.end("worth the wait\n")


@app.get("/stream")
async def stream(res: HttpResponse, req: HttpRequest) -> None:
    """Write a part in each segment, and wait for clients that are slow."""
    for number in range(5):
        res.write(f"part {number}\n")
        await res.drain()
        await asyncio.sleep(0.05)
        if res.aborted:
            return
    res.end("done\n")


def announce(where: AppListenOptions) -> None:
    """Print what can be asked for."""
    address = f"http://{where.host}:{where.port}"
    print(f"listening on {address}")
    for path, about in ROUTES.items():
        print(f"  {address + path:40} {about}", flush=True)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    try:
        app.listen({"port": arguments.port, "host": arguments.host}, announce)
    except OSError as error:
        raise SystemExit(f"hello.py: {error.strerror}") from None
    app.run()


if __name__ == "__main__":
    main()
