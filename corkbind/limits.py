"""Hold the limits of an app, each with its precedent."""

from __future__ import annotations

from dataclasses import dataclass, fields

_UINT32 = 0xFFFFFFFF
_SECONDS = 960  # 240 steps of 4 s
_TOPS = {"body": 1 << 62, "backlog": 1 << 62, "field": 65535, "fields": 100}


@dataclass(frozen=True)
class Limits:
    """Bound what one client can make the server hold or wait for.

    Sizes are bytes, times whole seconds. 0 turns a time or the rate off; the
    core measures times in steps of 4 s, up to 960.

    Raises:
        TypeError: a limit is not an int.
        ValueError: a limit is out of its range, which the text says.
    """

    body: int = 1024 * 1024  # nginx client_max_body_size: 1 MiB
    backlog: int = 16 * 1024 * 1024  # socketify's CLI: 16 MiB of backpressure
    line: int = 8 * 1024  # Apache LimitRequestLine 8190, nginx 8k
    head: int = 32 * 1024  # nginx large_client_header_buffers: 4 of 8k
    field: int = 16 * 1024  # half a head; Node's whole head is 16 KiB
    fields: int = 100  # Apache LimitRequestFields, Bun and uWebSockets: 100
    pipeline: int = 64 * 1024  # asyncio's stream limit: 64 KiB
    window: int = 64 * 1024  # asyncio's stream limit, HTTP/2's default window: 64 KiB
    head_seconds: int = 10  # uWebSockets 10 s, Apache RequestReadTimeout 20 s
    idle_seconds: int = 10  # uWebSockets 10 s, uvicorn 5 s, nginx 75 s
    body_seconds: int = 10  # uWebSockets 10 s, nginx client_body_timeout 60 s
    handler_seconds: int = 60  # nginx proxy_read_timeout: 60 s
    rate: int = 240  # Kestrel MinRequestBodyDataRate: 240 B/s
    connections: int = 0  # no limit but the process's descriptors

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Limits.{field.name} must be an int, not {type(value).__name__}")
            top = _SECONDS if field.name.endswith("_seconds") else _TOPS.get(field.name, _UINT32)
            if not 0 <= value <= top:
                raise ValueError(f"Limits.{field.name} must be from 0 to {top}, not {value}")
