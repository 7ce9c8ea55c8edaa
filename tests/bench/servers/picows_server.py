"""The benchmark's WebSockets on picows, with uvloop."""

import asyncio
import sys

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

subscribers = set()


def close(transport, frame):
    transport.send_close(frame.get_close_code(), frame.get_close_message())
    transport.disconnect()


class Echo(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            close(transport, frame)
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Subscriber(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            close(transport, frame)

    def on_ws_connected(self, transport):
        subscribers.add(transport)

    def on_ws_disconnected(self, transport):
        subscribers.discard(transport)


class Publisher(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            close(transport, frame)
        else:
            message = frame.get_payload_as_bytes()
            for subscriber in subscribers:
                subscriber.send(WSMsgType.TEXT, message)


ROUTES = {b"/echo": Echo, b"/fan": Subscriber, b"/publish": Publisher}


def listener(request):
    kind = ROUTES.get(request.path if isinstance(request.path, bytes) else request.path.encode())
    return kind() if kind else None  # which answers 404


async def main():
    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


uvloop.install()
asyncio.run(main())
