"""Describe what a route for WebSockets does: its handlers and its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from corkbind.enums import CompressOptions
from corkbind.ws_origins import origin_set

_IDLE_LEAST, _IDLE_MOST = 8, 960
_LIFETIME_MOST = 240  # what the sockets' clock of minutes can count


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
        max_lifetime: minutes, 1 to 240, after which it is closed with 1001, or less than a
            minute later; 0 = no limit.
        concurrent: begin each `message` coroutine at once, beside those that run, 16 at
            most; else they run one after the other.
        origins: from which pages browsers may open it, as ["https://example.com"], with
            None among them for clients that do not say; others get 403. None = from any.
        compression: CompressOptions, a compressor | a decompressor; one that is left out is shared.
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
    max_lifetime: int = 0
    concurrent: bool = False
    origins: Collection[str | None] | None = None
    compression: int = CompressOptions.DISABLED

    def __post_init__(self) -> None:
        for name in HANDLERS:
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
        if self.max_lifetime > _LIFETIME_MOST:
            raise ValueError(f"max_lifetime must be 0 to {_LIFETIME_MOST} minutes, not {self.max_lifetime}")
        if self.origins is not None:
            object.__setattr__(self, "origins", origin_set(self.origins))  # the class is frozen
        if self.compression & 0xFF not in _COMPRESSORS or self.compression & ~0xFF not in _DECOMPRESSORS:
            raise ValueError(f"compression must be {_COMPRESSIONS}, not {self.compression!r}")

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
                raise TypeError(f"{behavior!r} has none of the handlers of a WebSocket: {', '.join(HANDLERS)}")
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
            "lifetime_minutes": self.max_lifetime,
            "compression": int(self.compression),
        }


_NAMES = tuple(field.name for field in fields(WebSocketBehavior))
#: Names of the handlers; the other names are settings.
HANDLERS = _NAMES[: _NAMES.index("max_payload_length")]
_FLAGS = ("close_on_backpressure_limit", "reset_idle_timeout_on_send", "send_pings_automatically", "concurrent")
_NUMBERS = ("max_payload_length", "max_backpressure", "idle_timeout", "close_timeout", "max_lifetime", "compression")
_COMPRESSORS = frozenset(option for option in CompressOptions if option <= 0xFF)
_DECOMPRESSORS = frozenset(option for option in CompressOptions if not option & 0xFF)
_COMPRESSIONS = (
    "CompressOptions.DISABLED, or SHARED_COMPRESSOR or a DEDICATED_COMPRESSOR, | SHARED_DECOMPRESSOR or a DEDICATED_DECOMPRESSOR"
)
