"""Begin and end in order: what is asked for is answered, then the hooks run."""

import asyncio

from corkbind import App

app = App()


@app.on_start
async def start():
    """Open what handlers need, a database say."""
    await asyncio.sleep(0)
    print("started")


@app.on_shutdown
async def stop():
    """Close it."""
    await asyncio.sleep(0)
    print("stopped")


@app.get("/slow")
async def slow(res, req):
    """Take a while; a stop waits for it."""
    await asyncio.sleep(0.2)
    res.end("finished")


@app.get("/shutdown")
def shutdown(res, req):
    """End the program from inside."""
    res.end("bye")
    app.close()


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
print("over")
