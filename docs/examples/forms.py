"""Read what browsers and tools send: forms, text, bytes."""

from corkbind import App

app = App()

FORM = '<form method="post"><input name="city"><button>Send</button></form>'
app.get("/form", lambda res, req: res.send(FORM, content_type="text/html"))


@app.post("/form")
async def form(res, req):
    """Read a form: the last value of each name, or all of them."""
    fields = await res.get_form_urlencoded()
    res.cork_end({"last": fields, "all": await req.form()})


@app.post("/text")
async def text(res, req):
    """Read text."""
    content = await res.get_text("utf-8")
    res.cork_end("that is not UTF-8" if content is None else content[::-1])


@app.post("/bytes")
async def data(res, req):
    """Read bytes."""
    content = await res.get_data()
    res.cork_end(f"{len(content.getvalue())} bytes")


app.listen(8000, lambda config: print(f"listening on http://localhost:{config.port}"))
app.run()
