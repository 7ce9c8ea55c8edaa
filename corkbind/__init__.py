"""Serve HTTP from Python on a C core, with every write corked.

A first server: `App().get("/", lambda res, req: res.end("hello")).listen(8000).run()`.
"""

from __future__ import annotations

from corkbind._ffi.capsule import capsule as _C_API  # noqa: F401 (what C extensions import)
from corkbind.address import Address
from corkbind.app import App
from corkbind.app_loop import AppLoop, AppTimer
from corkbind.certificates import ClientCertificate, TlsInfo
from corkbind.client_tls import ClientTls
from corkbind.cork import corked_socket
from corkbind.domain import Domain
from corkbind.embedding import get_cflags, get_include, get_ldflags, get_library, get_library_dir, get_pkgconfig_dir
from corkbind.enums import CompressOptions, OpCode, SendStatus
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
    SocketClosed,
    TlsError,
    UncorkedWrite,
    WrongThread,
)
from corkbind.extension import AppExtension
from corkbind.files import sendfile
from corkbind.fixed import Fixed
from corkbind.limits import Limits
from corkbind.loop import Loop
from corkbind.middleware import middleware
from corkbind.multipart import FormData, MultipartLimits, UploadedFile
from corkbind.options import AppListenOptions, AppOptions
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse
from corkbind.router import MiddlewareRouter, Router
from corkbind.socket import Socket
from corkbind.socket_context import Listener, SocketContext
from corkbind.stream import Stream
from corkbind.streams import StreamServer, connect, connect_unix, serve_stream
from corkbind.task_factory import RequestTask, TaskFactory, create_task
from corkbind.timer import Timer
from corkbind.udp import DatagramDetails, UdpSocket
from corkbind.websocket import WebSocket
from corkbind.ws_behavior import WebSocketBehavior

# socketify's names
Request = AppRequest = HttpRequest
Response = AppResponse = HttpResponse

__all__ = [
    "Address",
    "App",
    "AppExtension",
    "AppListenOptions",
    "AppLoop",
    "AppOptions",
    "AppRequest",
    "AppResponse",
    "AppTimer",
    "BadRequest",
    "BodyInUse",
    "BodyIncomplete",
    "BodyMalformed",
    "BodyTooLarge",
    "ClientCertificate",
    "ClientTls",
    "CompressOptions",
    "ConnectionClosed",
    "CorkbindError",
    "DatagramDetails",
    "Domain",
    "Fixed",
    "FormData",
    "HttpRequest",
    "HttpResponse",
    "Limits",
    "Listener",
    "LoadError",
    "Loop",
    "MiddlewareRouter",
    "MultipartLimits",
    "OpCode",
    "Request",
    "RequestExpired",
    "RequestTask",
    "Response",
    "ResponseFinished",
    "ResponseStarted",
    "Router",
    "SendStatus",
    "Socket",
    "SocketClosed",
    "SocketContext",
    "Stream",
    "StreamServer",
    "TaskFactory",
    "Timer",
    "TlsError",
    "TlsInfo",
    "UdpSocket",
    "UncorkedWrite",
    "UploadedFile",
    "WebSocket",
    "WebSocketBehavior",
    "WrongThread",
    "connect",
    "connect_unix",
    "corked_socket",
    "create_task",
    "get_cflags",
    "get_include",
    "get_ldflags",
    "get_library",
    "get_library_dir",
    "get_pkgconfig_dir",
    "middleware",
    "sendfile",
    "serve_stream",
]
