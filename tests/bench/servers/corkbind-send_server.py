"""The benchmark's response of four headers on corkbind, written by one call."""

import asyncio
import sys

from corkbind import App

HEADERS = {"Content-Type": "text/plain", "Cache-Control": "no-store", "X-Request-Id": "5f3a9c", "X-Frame-Options": "DENY"}
app = App()
app.get("/", lambda res, req: res.end("ready"))


@app.get("/written")
async def written(res, req):
    await asyncio.sleep(0)
    res.send("Hello, World!", status=201, headers=HEADERS)


app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
app.run(loop="asyncio")
