"""Serve HTTP from Python on a C core, with every write corked.

A first server: `App().get("/", lambda res, req: res.end("hello")).listen(8000).run()`.
"""

from __future__ import annotations

from corkbind.app import Address, App
from corkbind.cork import corked_socket
from corkbind.errors import (
    BadRequest,
    BodyIncomplete,
    BodyInUse,
    BodyMalformed,
    BodyTooLarge,
    ConnectionClosed,
    CorkbindError,
    LoadError,
    RequestExpired,
    ResponseFinished,
    ResponseStarted,
    UncorkedWrite,
    WrongThread,
)
from corkbind.fixed import Fixed
from corkbind.limits import Limits
from corkbind.options import AppListenOptions, AppOptions
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse

# socketify's names
Request = AppRequest = HttpRequest
Response = AppResponse = HttpResponse

__all__ = [
    "Address",
    "App",
    "AppListenOptions",
    "AppOptions",
    "AppRequest",
    "AppResponse",
    "BadRequest",
    "BodyInUse",
    "BodyIncomplete",
    "BodyMalformed",
    "BodyTooLarge",
    "ConnectionClosed",
    "CorkbindError",
    "Fixed",
    "HttpRequest",
    "HttpResponse",
    "Limits",
    "LoadError",
    "Request",
    "RequestExpired",
    "Response",
    "ResponseFinished",
    "ResponseStarted",
    "UncorkedWrite",
    "WrongThread",
    "corked_socket",
]
