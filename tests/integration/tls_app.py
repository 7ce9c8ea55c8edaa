"""Ask itself over HTTPS once, then end: for the test of the command."""

from __future__ import annotations

import asyncio
import os
import ssl

from corkbind import App, AppOptions, HttpRequest, HttpResponse

#: Options that the app has of its own, where somebody gives it files.
own = {
    name: os.environ[name.upper()] for name in ("key_file_name", "cert_file_name", "ca_file_name") if name.upper() in os.environ
}
app = App(AppOptions(**own) if own else None)
if "OPENED" in os.environ:  # as an extension does that adds its routes
    assert app.native_handle


@app.get("/")
def home(res: HttpResponse, req: HttpRequest) -> None:
    res.end(f"{req.get_scheme()} {req.tls.version if req.tls else ''}")


async def ask() -> None:
    from corkbind._ffi.loader import lib

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = lib.ck_listener_port(app._listeners[0])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        print("answered", (await reader.read()).decode().rpartition("\r\n\r\n")[2], flush=True)
        writer.close()
    except OSError as error:
        print("refused", error, flush=True)
    app.close()


app.run_async(ask())
