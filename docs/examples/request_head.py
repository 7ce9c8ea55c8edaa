"""Show all that a request says of itself, before a wait and after."""

import asyncio

from corkbind import App

app = App()


@app.get("/now")
def now(res, req):
    """Read the head where it lies."""
    fields = []
    req.for_each_header(lambda name, value: fields.append(name))
    res.send(
        {
            "method": req.get_method(),
            "url": req.get_url(),
            "full_url": req.get_full_url(),
            "agent": req.get_header("user-agent"),
            "fields": sorted(fields),
            "search": req.get_query("search"),
            "queries": req.get_queries(),
            "from": res.get_remote_address(),
        }
    )


@app.get("/later")
async def later(res, req):
    """Read the same after a wait: nothing has to be preserved, though it may be."""
    req.preserve()
    await asyncio.sleep(0.01)
    res.send({"search": req.get_query("search"), "missing": req.get_parameter(0), "headers": req.get_headers()})


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
