"""The benchmark's response of four headers on socketify, corked by hand as its documentation advises."""

import asyncio
import sys

from socketify import App, AppListenOptions

app = App()


def write(res):
    res.write_status("201 Created")
    res.write_header("Content-Type", "text/plain")
    res.write_header("Cache-Control", "no-store")
    res.write_header("X-Request-Id", "5f3a9c")
    res.write_header("X-Frame-Options", "DENY")
    res.end("Hello, World!")


async def written(res, req):
    await asyncio.sleep(0)
    res.cork(write)


app.get("/", lambda res, req: res.end("ready"))
app.get("/written", written)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
