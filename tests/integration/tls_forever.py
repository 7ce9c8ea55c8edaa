"""Tell clients who they are: for the test of the command."""

from __future__ import annotations

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/")
def home(res: HttpResponse, req: HttpRequest) -> None:
    res.end(req.get_client_certificate() or b"nobody")


app.on_start(lambda: print("started", flush=True))
