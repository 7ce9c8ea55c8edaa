"""Answer after waiting: coroutine handlers, coroutines of plain handlers, work in threads."""

import asyncio
import time

from corkbind import App

app = App()


@app.get("/coroutine")
async def coroutine(res, req):
    """Wait, then write piece by piece: it is one send without any cork by hand."""
    await asyncio.sleep(0.01)
    res.write_status(202)
    res.write_header("X-Answer", 42)
    res.end("after a wait")


@app.get("/plain")
def plain(res, req):
    """Go on in a coroutine."""
    name = req.get_query("name")

    async def answer():
        await asyncio.sleep(0.01)
        res.cork_end(f"hello {name}")

    res.run_async(answer())


@app.get("/both")
async def both(res, req):
    """Wait for two things at once."""

    async def part(number):
        await asyncio.sleep(0.01)
        return number

    res.cork_send(await asyncio.gather(part(1), part(2)))


@app.get("/thread")
async def thread(res, req):
    """Let a thread do what blocks."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, time.sleep, 0.01)
    res.cork(lambda res: res.write_header("X-From", "thread").end("done"))


@app.get("/timer")
def timer(res, req):
    """Answer from a timer's callback."""
    app.loop.set_timeout(10, lambda res: res.cork_end("time is up"), res)


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
