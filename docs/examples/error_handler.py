"""Answer for handlers that fail, in one place."""

import asyncio
import logging

from corkbind import App

app = App()


@app.on_error
async def failed(error, res, req):
    """Answer; res and req are None when no request is to blame."""
    logging.info("answering for %r", error)
    if res is None:
        return
    await asyncio.sleep(0)
    res.write_status(500).cork_end(f"sorry: {error} at {req.get_url()}")


@app.get("/plain")
def plain(res, req):
    """Fail after something was written: it is taken back."""
    res.write_header("X-Taken-Back", "yes").write("half of ")
    raise ValueError("plain")


@app.get("/async")
async def late(res, req):
    """Fail after a wait."""
    await asyncio.sleep(0.01)
    raise ValueError("async")


@app.get("/cork")
def in_cork(res, req):
    """Fail inside a cork: nothing is swallowed."""
    res.cork(lambda res: res.write_status(201).write_header("X-Cork", int("cork")).end())


@app.get("/background")
def background(res, req):
    """Fail beside requests."""

    async def work():
        raise ValueError("nobody's request")

    app.run_async(work())
    res.end("begun")


@app.get("/trigger")
def trigger(res, req):
    """Say that something failed, without raising."""
    app.trigger_error(ValueError("triggered"), res, req)


app.any("/*", lambda res, req: res.write_status("404 Nothing Here").end("not found"))
app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
