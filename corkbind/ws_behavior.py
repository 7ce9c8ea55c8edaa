"""Describe what a route for WebSockets does: its handlers and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

_IDLE_LEAST, _IDLE_MOST = 8, 960


@dataclass(frozen=True)
class WebSocketBehavior:
    """Hold handlers and settings of a route; `app.ws` takes them in several forms.

    Handlers are plain functions or coroutine functions.

    Args:
        upgrade: `upgrade(res, req, context)` answers the opening handshake: by
            `context.accept(res)`, or as any request. None accepts.
        open: `open(ws)`.
        message: `message(ws, message, opcode)`: text is str, binary bytes.
        ping: `ping(ws, data)`; it has been answered already.
        pong: `pong(ws, data)`.
        close: `close(ws, code, reason)`, once; 1006 when there was no close frame.
        drain: `drain(ws)`: all that waited for the client has left.
        dropped: `dropped(ws, message, opcode)`: too much waits, and it was not sent.
        subscription: `subscription(ws, topic, count, count_before)`: the number of a topic's
            subscribers has changed by this WebSocket, also at its end, before `close`.
        max_payload_length: bytes of one message; a longer one closes with 1009.
        max_backpressure: bytes that may wait before messages are dropped; 0 = no limit.
        close_on_backpressure_limit: close in place of dropping.
        idle_timeout: seconds without a frame from the client, 8 to 960; 0 = no limit.
        reset_idle_timeout_on_send: what is sent counts as well.
        send_pings_automatically: ask a silent client by a ping before it is idle too long.
        close_timeout: seconds in which the client must answer our close frame.
    """

    upgrade: Callable[..., Any] | None = None
    open: Callable[..., Any] | None = None
    message: Callable[..., Any] | None = None
    ping: Callable[..., Any] | None = None
    pong: Callable[..., Any] | None = None
    close: Callable[..., Any] | None = None
    drain: Callable[..., Any] | None = None
    dropped: Callable[..., Any] | None = None
    subscription: Callable[..., Any] | None = None
    max_payload_length: int = 16 * 1024
    max_backpressure: int = 64 * 1024
    close_on_backpressure_limit: bool = False
    idle_timeout: int = 120
    reset_idle_timeout_on_send: bool = False
    send_pings_automatically: bool = True
    close_timeout: int = 10

    def __post_init__(self) -> None:
        for name in _HANDLERS:
            handler = getattr(self, name)
            if handler is not None and not callable(handler):
                raise TypeError(f"the handler {name!r} of a WebSocket must be callable, not {type(handler).__name__}")
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, not {type(value).__name__}")
            if not 0 <= value <= 0x7FFFFFFF:
                raise ValueError(f"{name} must be 0 to 2**31 - 1, not {value}")
        if self.idle_timeout and not _IDLE_LEAST <= self.idle_timeout <= _IDLE_MOST:
            raise ValueError(f"idle_timeout must be 0 or {_IDLE_LEAST} to {_IDLE_MOST} seconds, not {self.idle_timeout}")
        if not 1 <= self.close_timeout <= _IDLE_MOST:
            raise ValueError(f"close_timeout must be 1 to {_IDLE_MOST} seconds, not {self.close_timeout}")

    @classmethod
    def of(cls, behavior: object, options: Mapping[str, Any]) -> WebSocketBehavior:
        """Make one of a dict, of a class or object with methods, or of options alone.

        Raises:
            TypeError: a name is unknown, or a value of the wrong type.
            ValueError: a value is out of range.
        """
        found: dict[str, Any] = {}
        if isinstance(behavior, Mapping):
            found.update(behavior)
        elif behavior is not None:
            holder = behavior() if isinstance(behavior, type) else behavior
            found.update({name: getattr(holder, name) for name in _NAMES if hasattr(holder, name)})
            if not found:
                raise TypeError(f"{behavior!r} has none of the handlers of a WebSocket: {', '.join(_HANDLERS)}")
        found.update(options)
        unknown = sorted(str(name) for name in set(found) - set(_NAMES))
        if unknown:
            raise TypeError(f"a WebSocket has no {', '.join(unknown)}; it takes {', '.join(_NAMES)}")
        return cls(**found)

    def limits(self) -> dict[str, int]:
        """Return the settings as ck_ws_limits."""
        return {
            "message": self.max_payload_length,
            "backlog": self.max_backpressure,
            "idle_seconds": self.idle_timeout,
            "close_seconds": self.close_timeout,
            "pings": int(self.send_pings_automatically),
            "close_on_backlog": int(self.close_on_backpressure_limit),
            "idle_on_send": int(self.reset_idle_timeout_on_send),
        }


_NAMES = tuple(field.name for field in fields(WebSocketBehavior))
_HANDLERS = _NAMES[: _NAMES.index("max_payload_length")]
_FLAGS = ("close_on_backpressure_limit", "reset_idle_timeout_on_send", "send_pings_automatically")
_NUMBERS = ("max_payload_length", "max_backpressure", "idle_timeout", "close_timeout")
