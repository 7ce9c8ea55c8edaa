"""The benchmark's routes on robyn, one process and one worker."""

import asyncio
import sys

from robyn import Response, Robyn, jsonify

BODY = b"x" * 65536
app = Robyn(__file__)


@app.get("/")
def text(request):
    return "Hello, World!"


@app.get("/users/:id")
def user(request):
    headers = {"X-Request-Id": "5f3a9c", "Cache-Control": "no-store", "Content-Type": "application/json"}
    return Response(status_code=200, headers=headers, description=jsonify({"id": request.path_params["id"], "name": "Ada"}))


@app.get("/async")
async def coroutine(request):
    return "Hello, World!"


@app.get("/wait")
async def wait(request):
    await asyncio.sleep(0)
    return "Hello, World!"


@app.get("/down")
def down(request):
    return Response(status_code=200, headers={"Content-Type": "application/octet-stream"}, description=BODY)


@app.post("/up")
def up(request):
    return str(len(request.body))


app.start(host="127.0.0.1", port=int(sys.argv[1]))
