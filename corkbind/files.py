"""Send a file as a response: conditions, ranges, and the kernel's own copying.

A file is opened first and judged by what was opened: its size and times are those
of the very file that is sent, and no link that is changed meanwhile leads anywhere
else. What the disk may be waited for is done in a thread; a large file goes from
the page cache to the socket by sendfile(2), a window at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corkbind import page_cache
from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.content_types import content_type as type_of
from corkbind.disk import in_thread
from corkbind.errors import ConnectionClosed, CorkbindError, refusal
from corkbind.exchange import ABORTED, ENDED, OPEN, Runtime
from corkbind.negotiation import CODINGS, accepted_codings
from corkbind.ranges import Unsatisfiable, parse_range
from corkbind.validators import Conditions, Validators, precondition, range_applies

if TYPE_CHECKING:
    from corkbind.request import HttpRequest
    from corkbind.response import HttpResponse

_ck_send_file: Callable[[int, int, int, int], int] = lib.ck_send_file

#: Up to this size a file is read, and leaves with its head in one send.
SMALL: Final = 64 * 1024
#: What is handed to the kernel at once, if the page cache has it.
WINDOW: Final = 16 * 1024 * 1024
#: A path that was opened so many seconds ago is opened without a thread: the
#: kernel still knows its directories.
RECENT_SECONDS: Final = 60.0
_RECENT_MOST: Final = 4096

_NOT_THERE: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
_NO_SUCH_NAME: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL)
_ALL_TAKEN: Final = 1
_HAS_ENDED: Final = 2

_recent: Final[dict[tuple[str, str | None, tuple[str, ...]], float]] = {}

log: Final = logging.getLogger("corkbind")


class Opened(NamedTuple):
    """Hold an open file and what it was when it was opened."""

    file: int
    path: str
    status: os.stat_result
    coding: str

    def close(self) -> None:
        """Close the file."""
        os.close(self.file)


class Options(NamedTuple):
    """Say how files are sent.

    Args:
        content_type: None goes by the extension.
        cache_control: the field's value; None sends none.
        precompressed: send a neighbour in .br, .zst or .gz to who takes it.
        root: refuse what does not lie in this directory, a real path.
        headers: further fields of a response with the file or a part of it.
    """

    content_type: str | None = None
    cache_control: str | None = None
    precompressed: bool = False
    root: str | None = None
    headers: Mapping[str, str] | None = None


async def sendfile(
    res: HttpResponse,
    req: HttpRequest,
    filename: str | os.PathLike[str],
    *,
    content_type: str | None = None,
    cache_control: str | None = None,
    precompressed: bool = False,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with a file: `await sendfile(res, req, "report.pdf")`.

    ETag, Last-Modified, the conditional fields, single ranges and HEAD are taken
    care of; a file that is not there, or is no regular file, is answered with 404.
    The name is the program's own: nothing keeps it inside a directory. For names
    from clients there is `App.static`.

    Args:
        content_type: None goes by the extension of the name.
        cache_control: the value of Cache-Control; None sends none.
        precompressed: send a neighbour (name.br, .zst, .gz) to clients that take it.
        headers: further fields of a response with the file. Fields that were written
            before go with every answer, a 404 too.

    Raises:
        OSError: the disk failed, or no descriptor is free.
        ResponseFinished, RequestExpired: as for `end`.
    """
    path = os.fspath(filename)
    await send(res, req, path, Options(content_type, cache_control, precompressed, None, headers))


async def send(res: HttpResponse, req: HttpRequest, path: str, options: Options) -> None:
    """Answer with the file at `path`, or with 404.

    Raises:
        IsADirectoryError: it is a directory inside `options.root`.
        OSError: the disk failed.
    """
    codings = accepted_codings(req.get_header("accept-encoding")) if options.precompressed else []
    try:
        opened = await _open_best(res._route.runtime, path, options.root, tuple(codings))
    except IsADirectoryError:
        if options.root is not None:
            raise
        not_found(res)
        return
    except (*_NOT_THERE, ValueError):  # ValueError: a NUL in the name
        not_found(res)
        return
    except OSError as error:
        if error.errno not in _NO_SUCH_NAME:
            raise
        not_found(res)
        return
    try:
        if res._state == OPEN:
            await _answer(res, req, opened, options)
    finally:
        opened.close()


def not_found(res: HttpResponse) -> None:
    """Answer with 404."""
    res.send("Not Found", "text/plain", 404)


# -- Opening --


async def _open_best(runtime: Runtime, path: str, root: str | None, codings: tuple[str, ...]) -> Opened:
    key, now = (path, root, codings), time.monotonic()
    if now - _recent.get(key, -RECENT_SECONDS) < RECENT_SECONDS:
        return open_best(path, root, codings)
    opened = await in_thread(runtime, open_best, path, root, codings, unwanted=Opened.close)
    # Only what was there: names that clients make up would fill the table.
    if len(_recent) >= _RECENT_MOST:
        _recent.clear()
    _recent[key] = now
    return opened


def open_best(path: str, root: str | None, codings: Sequence[str]) -> Opened:
    """Open a regular file, or the first of its neighbours in `codings` that is no older.

    Raises:
        IsADirectoryError: it is a directory.
        OSError: it cannot be opened, is no regular file, or lies outside `root`.
    """
    found = open_regular(path, root)
    for coding in codings:
        try:
            neighbour = open_regular(path + CODINGS[coding], root)
        except OSError:
            continue
        if neighbour.status.st_mtime_ns >= found.status.st_mtime_ns:
            found.close()
            return neighbour._replace(path=path, coding=coding)
        neighbour.close()
    return found


def open_regular(path: str, root: str | None) -> Opened:
    """Open a regular file inside `root`.

    Raises:
        IsADirectoryError: it is a directory.
        OSError: it cannot be opened, is no regular file, or lies outside `root`.
    """
    # A pipe without a writer would block for ever; terminals must not become ours.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(file)
        if root is not None and not lies_in(_real_path(file, path), root):
            raise PermissionError(errno.EACCES, "it lies outside the directory that is served", path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no regular file", path)
    except BaseException:
        os.close(file)
        raise
    return Opened(file, path, status, "")


def lies_in(path: str, root: str) -> bool:
    """Tell whether a real path is a directory or lies below it."""
    return path == root or path.startswith(root if root.endswith("/") else root + "/")


def _real_path(file: int, path: str) -> str:
    """Return where an open file lies: of what was opened, not of what the name says by now."""
    try:
        return os.readlink(f"/proc/self/fd/{file}")
    except OSError:  # no /proc: the name has to do
        return os.path.realpath(path)


# -- Answering --


async def _answer(res: HttpResponse, req: HttpRequest, opened: Opened, options: Options) -> None:
    size = opened.status.st_size
    validators = Validators.of_file(size, opened.status.st_mtime_ns, opened.coding)
    method = req.get_method()
    asked = _conditions(req) if method in ("GET", "HEAD") else Conditions()
    status = precondition(asked, validators)
    if status == 412:
        res.send("Precondition Failed", "text/plain", 412)
        return
    try:
        part = _part(req, validators, size) if method == "GET" and not status else None
    except Unsatisfiable:
        _write_fields(res, {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}, 416)
        res.end("Range Not Satisfiable")
        return
    fields = _fields(opened, options, validators)
    if status == 304:
        _write_fields(res, fields, 304)
        res.end_without_body()
        return
    fields["Content-Type"] = options.content_type or type_of(opened.path)
    fields["Accept-Ranges"] = "bytes"
    if opened.coding:
        fields["Content-Encoding"] = opened.coding
    given = options.headers or {}
    names = {name.lower() for name in given}
    fields = {**{name: value for name, value in fields.items() if name.lower() not in names}, **given}
    first, length = part or (0, size)
    if part is not None:
        fields["Content-Range"] = f"bytes {first}-{first + length - 1}/{size}"
    status = 206 if part is not None else 200
    if method == "HEAD":
        _write_fields(res, fields, status)
        res.end_without_body(length=size)
    elif length <= SMALL:
        data = await _read(res, opened, first, length)
        if res._state == OPEN:
            _write_fields(res, fields, status)
            res.end(data)
    else:
        window = await page_cache.fetch(res._route.runtime, opened.file, first, min(length, WINDOW))
        if res._state == OPEN:
            _write_fields(res, {**fields, "Content-Length": length}, status)
            await _send_windows(res, opened, first, first + length, window)


def _conditions(req: HttpRequest) -> Conditions:
    return Conditions(
        req.get_header("if-match"),
        req.get_header("if-unmodified-since"),
        req.get_header("if-none-match"),
        req.get_header("if-modified-since"),
    )


def _part(req: HttpRequest, validators: Validators, size: int) -> tuple[int, int] | None:
    asked = req.get_header("range")
    if asked is None or not range_applies(req.get_header("if-range"), validators):
        return None
    return parse_range(asked, size)


def _fields(opened: Opened, options: Options, validators: Validators) -> dict[str, str]:
    """Return the fields that a 304 has too (RFC 9110 S15.4.5)."""
    fields = {"ETag": validators.etag, "Last-Modified": validators.last_modified}
    if options.cache_control is not None:
        fields["Cache-Control"] = options.cache_control
    if options.precompressed:
        fields["Vary"] = "Accept-Encoding"
    return fields


def _write_fields(res: HttpResponse, fields: dict[str, Any], status: int) -> None:
    res.write_status(status)
    for name, value in fields.items():
        res.write_header(name, value)


# -- Sending --


async def _read(res: HttpResponse, opened: Opened, offset: int, length: int) -> bytes:
    data = await page_cache.read(res._route.runtime, opened.file, offset, length)
    if len(data) != length:
        raise CorkbindError(f"cannot send {opened.path}: it has become shorter since it was opened")
    return data


async def _send_windows(res: HttpResponse, opened: Opened, offset: int, end: int, window: int) -> None:
    """Send a part of a file whose first `window` bytes have been fetched."""
    res._before_body()
    while res._state == OPEN:
        result = _ck_send_file(res._handle, opened.file, offset, window)
        if result < 0:
            _send_failed(res, opened, result)
            return
        offset += window
        if result & _HAS_ENDED:
            res._now_over(ENDED)
            return
        if not result & _ALL_TAKEN and not await _all_taken(res, opened, end):
            return
        window = await page_cache.fetch(res._route.runtime, opened.file, offset, min(WINDOW, end - offset))


async def _all_taken(res: HttpResponse, opened: Opened, end: int) -> bool:
    try:
        await res.drain()
    except ConnectionClosed as closed:
        if closed.code == ck.CK_ABORT_SERVER and os.fstat(opened.file).st_size < end:
            _log_shorter(opened)
        return False
    return True


def _send_failed(res: HttpResponse, opened: Opened, result: int) -> None:
    if result == ck.CK_LENGTH:  # the core has closed the connection: the body cannot be completed
        _log_shorter(opened)
        res._now_over(ABORTED)
    elif result == ck.CK_NOMEM:
        raise OSError(errno.EMFILE, "cannot send: no memory or no free descriptor", opened.path)
    elif result == ck.CK_ABORTED:
        res._state = ABORTED
    else:
        raise refusal(result, f"send {opened.path}")


def _log_shorter(opened: Opened) -> None:
    log.warning("%s became shorter while it was sent; its client's connection is closed", opened.path)
