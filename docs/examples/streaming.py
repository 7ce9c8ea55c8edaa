"""Send large bodies at the pace of the client, in the three ways there are."""

from corkbind import App

PART = b"0123456789abcdef" * 4096
PARTS = 32
TOTAL = len(PART) * PARTS
BODY = PART * PARTS

app = App()


@app.get("/chunks")
async def chunks(res, req):
    """Send parts of known total size; send_chunk waits for the client."""
    for _ in range(PARTS):
        ok, done = await res.send_chunk(PART, TOTAL)
        if not ok or done:
            return


@app.get("/try-end")
def try_end(res, req):
    """Send what the client takes, and the rest when it takes more."""
    _, done = res.try_end(BODY, TOTAL)
    if done:
        return

    def more(res, offset):
        ok, _ = res.try_end(BODY[offset:], TOTAL)
        return ok

    res.on_writable(more)


@app.get("/write")
async def write(res, req):
    """Send parts of unknown total size, chunked."""
    for _ in range(PARTS):
        res.write(PART)
        await res.drain()
    res.end()


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
