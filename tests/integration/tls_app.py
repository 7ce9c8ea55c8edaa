"""Ask itself over HTTPS once, then end: for the test of the command."""

from __future__ import annotations

import asyncio
import ssl

from corkbind import App, HttpRequest, HttpResponse

app = App()


@app.get("/")
def home(res: HttpResponse, req: HttpRequest) -> None:
    res.end(req.get_scheme())


async def ask() -> None:
    from corkbind._ffi.loader import lib

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = lib.ck_listener_port(app._listeners[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    print("answered", (await reader.read()).decode().rpartition("\r\n\r\n")[2], flush=True)
    writer.close()
    app.close()


app.run_async(ask())
