"""Take large uploads part by part, without holding them in memory."""

import asyncio
import hashlib

from corkbind import App

app = App()


@app.post("/plain", max_body=1 << 30)
def upload(res, req):
    """Hash each part as it comes."""
    digest = hashlib.sha256()

    def on_data(res, chunk, is_end):
        digest.update(chunk or b"")
        if is_end:
            res.cork_end(digest.hexdigest())

    res.on_aborted(lambda res: print("the client left"))
    res.on_data(on_data)


@app.post("/async", max_body=1 << 30)
def slow_upload(res, req):
    """Wait at each part: the client is not read faster than that."""
    parts = []

    async def on_data(res, chunk, is_end):
        await asyncio.sleep(0)
        parts.append(len(chunk or b""))
        if is_end:
            res.cork_end({"bytes": sum(parts)})

    res.on_data(on_data)


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
