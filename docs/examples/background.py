"""Work beside requests: a timer that repeats, a task that runs, a queue that requests fill."""

import asyncio

from corkbind import App

app = App()
queue = asyncio.Queue()
seen = []
ticks = []


async def work():
    """Take what requests have put there."""
    while True:
        seen.append(await queue.get())


@app.post("/jobs/:name")
def add(res, req):
    """Put a job there, and answer at once."""
    queue.put_nowait(req.get_parameter(0))
    res.write_status(202).end()


timer = app.loop.set_timeout(1, ticks.append, "tick")
timer.set_repeat(10)
app.loop.create_background_task(work)
app.get("/jobs", lambda res, req: res.end({"seen": seen, "ticks": bool(ticks)}))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
