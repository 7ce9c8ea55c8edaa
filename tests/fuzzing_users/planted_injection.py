"""Hold an app that puts decoded input into heads: a line break into Location, delimiters into two others."""

from __future__ import annotations

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/login")
def login(res: HttpResponse, req: HttpRequest) -> None:
    res.write_status(303).write_header("Location", "/welcome?next=" + (req.get_query("next") or "/")).end()


@app.get("/files/:name")
def download(res: HttpResponse, req: HttpRequest) -> None:
    name = (req.get_parameter("name") or "").replace("\r", "").replace("\n", "").replace("\0", "")
    if name.isascii() and name.isprintable():
        res.write_header("Content-Disposition", f'attachment; filename="{name}"')
    res.end("content")
