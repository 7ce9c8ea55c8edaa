"""Drive a loopback by choices: clients that connect, send, break off, and time that passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corkbind.testing.faults import Faults
from corkbind.testing.requests import encode_request
from corkbind.testing.words import WEBSOCKET
from corkbind.testing.ws_driver import SocketDriver, fill

if TYPE_CHECKING:
    from corkbind.testing.connection import Connection
    from corkbind.testing.loopback import Loopback

_CLIENTS: Final = 8
_FAULTS: Final = (("send", "EAGAIN"), ("send", 1), ("recv", "EAGAIN"), ("recv", 1), ("accept", "EMFILE"), ("send", "EPIPE"))
_METHODS: Final = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH")


def drive(loopback: Loopback, max_turns: int) -> None:
    """Do up to `max_turns` things that the loopback's choices say, then run."""
    clients: list[Connection] = []
    sockets = SocketDriver(loopback)
    for _ in range(max_turns):
        if loopback.choices.over:
            break
        if sockets.targets and loopback.choices.below(2):
            sockets.turn()
        else:
            _turn(loopback, clients)
    loopback.run()


def _turn(loopback: Loopback, clients: list[Connection]) -> None:
    choices = loopback.choices
    what = choices.below(16)
    if not clients or (what == 0 and len(clients) < _CLIENTS):
        clients.append(loopback.connect())
    client = clients[choices.below(len(clients))]
    if client.closed and client in clients:
        clients.remove(client)
    elif what < 8:
        _send(client, _request(loopback), choices.below(4))
    elif what == 8:
        _send(client, choices.data(64), 0)
    elif what == 9:
        client.window = (0, 1, 10, 1000, None)[choices.below(5)]
    elif what == 10:
        client.fin()
    elif what == 11:
        client.reset()
    elif what == 12:
        call, step = _FAULTS[choices.below(len(_FAULTS))]
        loopback.faults = Faults(**{call: [step]})  # type: ignore[arg-type]
    elif what == 13:
        loopback.advance((0.001, 1, 5, 30)[choices.below(4)])
    if what != 14:
        loopback.run()


def _send(client: Connection, data: bytes, pieces: int) -> None:
    if client.ended:
        return
    size = max(1, len(data) // (pieces + 1))
    for at in range(0, len(data), size):
        client.send(data[at : at + size])


def _request(loopback: Loopback) -> bytes:
    """Return a request for one of the app's routes, with some of the choices' bytes in it."""
    choices = loopback.choices
    routes = [route for route in loopback.routes() if route[0] != WEBSOCKET] or [("GET", "/")]
    method, pattern = routes[choices.below(len(routes))]
    if method == "*":
        method = _METHODS[choices.below(len(_METHODS))]
    path = fill(pattern, choices)
    body = choices.data(32) if method in ("POST", "PUT", "PATCH") else b""
    chunks = [1 + choices.below(8)] if body and choices.below(2) else None
    return b"".join(encode_request(method, path, body=body, chunks=chunks))
