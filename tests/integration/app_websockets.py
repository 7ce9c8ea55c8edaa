"""Serve WebSockets that signals arrive in: `app_websockets.py [asyncio|uvloop] [grace]`.

At the end it prints how many have opened, and with which codes they closed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from corkbind import App

app = App()
opened = 0
codes: Counter[int] = Counter()


def count(ws: Any) -> None:
    """Count what has opened."""
    global opened
    opened += 1


async def closed(ws: Any, code: int, reason: str) -> None:
    """Count what has closed, after a wait: an end of the app lets it finish."""
    await asyncio.sleep(0.001)
    codes[code] += 1


async def late(ws: Any, message: str, opcode: int) -> None:
    """Give a message back after a wait."""
    await asyncio.sleep(0.001)
    if not ws.closed:
        await ws.send_wait(message)


async def iterate(ws: Any) -> None:
    """Give messages back one by one."""
    count(ws)
    async for message in ws:
        await ws.send_wait(message)


app.ws("/plain", open=count, message=lambda ws, message, opcode: ws.send(message), close=closed)
app.ws("/late", open=count, message=late, close=closed)
app.ws("/iterate", open=iterate, close=closed)
app.ws("/concurrent", open=count, message=late, close=closed, concurrent=True)


@app.on_shutdown
def on_shutdown() -> None:
    """Say what has happened."""
    print(opened, dict(codes), flush=True)


def main() -> None:
    """Serve on a free port."""
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
    app.run(loop=sys.argv[1] if len(sys.argv) > 1 else "asyncio", grace=float(sys.argv[2]) if len(sys.argv) > 2 else 30.0)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
