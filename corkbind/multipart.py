"""Read multipart/form-data part by part, as it comes.

The format is taken apart by python-multipart, which is an extra:
`pip install corkbind[forms]`. What is held here is how much a client may send,
that parts can be read at the handler's pace, and where files go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, Final

from corkbind import percent
from corkbind._ffi.loader import lib
from corkbind.body_chunks import BodyChunks
from corkbind.disk import in_thread
from corkbind.errors import BadRequest, BodyTooLarge, CorkbindError, refusal

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.response import HttpResponse

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_py_header: Callable[[int, bytes, int], str | None] = lib.ck_py_header

_CONTENT_TYPE: Final = b"content-type"
_BOUNDARY_MOST: Final = 70  # RFC 2046 S5.1.1
#: Fields of a part: Content-Disposition, Content-Type, and few others.
_PART_FIELDS: Final = 16
#: A file of a form stays in memory up to this size.
_SPOOLED: Final = 256 * 1024


@dataclass(frozen=True)
class MultipartLimits:
    """Bound what one form can make the server hold, in bytes but for `parts`.

    Args:
        parts: in one form (Starlette: 1000 fields).
        field: of a part that is no file, and of each part that is read whole.
        file: of a file; None leaves it to `total`.
        head: of the fields of one part.
        total: of the whole form; None keeps the limit of the route or app.
    """

    parts: int = 1000
    field: int = 1024 * 1024
    file: int | None = None
    head: int = 8 * 1024
    total: int | None = None


class Part:
    """Be one part of a form; read it before the next one is asked for.

    Attributes:
        name: of the field.
        filename: without directories, or None for a field that is no file.
        content_type: as the client says it, "text/plain" where it says none.
        headers: all fields of the part by lower-case name.
    """

    __slots__ = ("_form", "_limit", "_over", "content_type", "filename", "headers", "name")

    def __init__(self, form: Multipart, headers: dict[str, str], limits: MultipartLimits) -> None:
        self.headers = headers
        self.name, self.filename = _disposition(headers.get("content-disposition", ""))
        self.content_type = headers.get("content-type", "text/plain")
        self._form = form
        self._limit = limits.field if self.filename is None else limits.file
        self._over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        size = 0
        while not self._over:
            chunk = await self._form._chunk()
            if chunk is None:
                self._over = True
                return
            size += len(chunk)
            if self._limit is not None and size > self._limit:
                raise BodyTooLarge(f"the part {self.name!r} is longer than {self._limit} bytes")
            yield chunk

    async def read(self) -> bytes:
        """Return the whole part.

        Raises:
            BodyTooLarge: it is longer than MultipartLimits.field; files are to be
                read chunk by chunk, `async for chunk in part`.
            BadRequest, BodyIncomplete: as for the form.
        """
        most = self._form.limits.field
        parts, size = [], 0
        async for chunk in self:
            size += len(chunk)
            if size > most:
                raise BodyTooLarge(f"the part {self.name!r} is longer than {most} bytes: read it by `async for chunk in part`")
            parts.append(chunk)
        return b"".join(parts)

    async def text(self, encoding: str = "utf-8") -> str:
        """Return the whole part as text.

        Raises:
            BadRequest: it cannot be decoded.
            BodyTooLarge, BodyIncomplete: as `read`.
        """
        try:
            return (await self.read()).decode(encoding)
        except UnicodeDecodeError as error:
            raise BadRequest(f"the part {self.name!r} is not {encoding}: {error}") from error


class Multipart:
    """Iterate over the parts of a form: `async for part in res.multipart(): ...`.

    A part that is not read is passed over when the next one is asked for.

    Raises:
        BadRequest: the request is no multipart/form-data.
        CorkbindError: python-multipart is not installed.
    """

    def __init__(self, response: HttpResponse, limits: MultipartLimits) -> None:
        self.limits = limits
        self._chunks = BodyChunks(response)
        self._events: deque[dict[str, str] | bytes | None] = deque()
        self._head: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._head_size = 0
        self._parts = 0
        self._part: Part | None = None
        self._ended = False
        self._parser, self._error = self._make_parser(_boundary(response))
        if limits.total is not None:
            response.body_limit(limits.total)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part:
        """Return the next part.

        Raises:
            BadRequest: the form is malformed; answered with 400.
            BodyTooLarge: a limit is passed; answered with 413.
            BodyIncomplete, BodyMalformed, BodyInUse: as for `res.get_data`.
        """
        if self._part is not None:
            async for _ in self._part:
                pass  # what nobody wanted
            self._part = None
        event = await self._event()
        if event is None:
            raise StopAsyncIteration
        if not isinstance(event, dict):
            raise CorkbindError("a part of a form was read after the next one had been asked for")
        self._parts += 1
        if self._parts > self.limits.parts:
            raise BodyTooLarge(f"the form has more than {self.limits.parts} parts")
        self._part = Part(self, event, self.limits)
        return self._part

    async def _chunk(self) -> bytes | None:
        """Return the next chunk of the part that is read; None at its end."""
        event = await self._event()
        if isinstance(event, dict):
            raise CorkbindError("a part of a form was read after the next one had been asked for")
        return event

    async def _event(self) -> dict[str, str] | bytes | None:
        """Return the head of a part, a chunk of one, or None for the end: of a part, or of all."""
        while not self._events:
            if self._ended:
                return None
            try:
                data = await self._chunks.__anext__()
            except StopAsyncIteration:
                raise BadRequest("the form ends before its last boundary") from None
            self._feed(data)
        return self._events.popleft()

    def _feed(self, data: bytes) -> None:
        # What follows the last boundary is read to its end, and means nothing.
        if self._ended:
            return
        try:
            self._parser.write(data)
        except self._error as error:
            raise BadRequest(f"the form is malformed: {error}") from error

    def _make_parser(self, boundary: bytes) -> tuple[Any, type[Exception]]:
        try:
            from python_multipart.exceptions import FormParserError
            from python_multipart.multipart import MultipartParser
        except ImportError as error:
            raise CorkbindError("reading multipart forms needs python-multipart: pip install 'corkbind[forms]'") from error
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        return MultipartParser(boundary, callbacks), FormParserError  # type: ignore[arg-type,unused-ignore]

    # What the parser calls.

    def _on_part_begin(self) -> None:
        self._head, self._head_size = {}, 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self.limits.head:
            raise BadRequest(f"the fields of a part are longer than {self.limits.head} bytes")

    def _on_header_end(self) -> None:
        name = self._field.decode("latin-1").lower()
        if name in self._head or len(self._head) == _PART_FIELDS:
            raise BadRequest(f"a part has the field {name!r} twice, or more than {_PART_FIELDS} fields")
        # RFC 7578 S5.1: names and file names come as they are, in UTF-8.
        self._head[name] = self._value.decode("utf-8", "replace").strip(" \t")
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._events.append(self._head)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(None)

    def _on_end(self) -> None:
        self._ended = True


def _header(response: HttpResponse) -> str:
    try:
        return _ck_py_header(response._handle, _CONTENT_TYPE, len(_CONTENT_TYPE)) or ""
    except ValueError:
        raise refusal(_ck_alive(response._handle) or -1, "read the form") from None


def _boundary(response: HttpResponse) -> bytes:
    kind, parameters = parameters_of(_header(response))
    boundary = parameters.get("boundary", "")
    if kind != "multipart/form-data":
        raise BadRequest(f"the request is no multipart/form-data, but {kind or 'has no Content-Type'}")
    if not boundary or len(boundary) > _BOUNDARY_MOST or not boundary.isascii():
        raise BadRequest("the form's Content-Type has no boundary of 1 to 70 characters")
    return boundary.encode()


def parameters_of(field: str) -> tuple[str, dict[str, str]]:
    """Split a field of the form `value; name=token; name="quoted"`, in one pass.

    Returns:
        The value in lower case, and its parameters by lower-case name; the first of a name.
    """
    value, _, rest = field.partition(";")
    parameters: dict[str, str] = {}
    at = 0
    while at < len(rest):
        equals = rest.find("=", at)
        if equals < 0:
            break
        name = rest[at:equals].strip(" \t;").lower()
        if rest[equals + 1 : equals + 2] == '"':
            content, at = _quoted(rest, equals + 2)
        else:
            end = rest.find(";", equals)
            at = len(rest) if end < 0 else end + 1
            content = rest[equals + 1 : at].rstrip("; \t")
        parameters.setdefault(name, content)
    return value.strip(" \t").lower(), parameters


def _quoted(text: str, at: int) -> tuple[str, int]:
    """Return a quoted string that begins at `at`, and the place behind it.

    A backslash escapes a quote and itself only: old browsers send whole paths as
    file names, in which it is a separator.
    """
    characters = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            at += 1
        characters.append(text[at])
        at += 1
    return "".join(characters), at + 1


def _disposition(field: str) -> tuple[str, str | None]:
    """Return the name and file name of a part.

    Raises:
        BadRequest: it has no name.
    """
    kind, parameters = parameters_of(field)
    if kind != "form-data" or "name" not in parameters:
        raise BadRequest("a part of the form has no Content-Disposition with a name")
    filename = parameters.get("filename")
    return _unescaped(parameters["name"]), None if filename is None else _base_name(_unescaped(filename))


def _unescaped(text: str) -> str:
    """Undo what browsers do to names: three characters are percent-encoded (WHATWG HTML S4.10.21.8)."""
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%22", '"')):
        text = text.replace(code, character)
    return text


def _base_name(filename: str) -> str:
    """Drop the directories that some clients send along (RFC 7578 S4.2), and what only means one."""
    name = filename.replace("\\", "/").rpartition("/")[2].replace("\0", "")
    return "" if name in (".", "..") else name


# -- Whole forms --


class UploadedFile:
    """Hold a file of a form: in memory while it is small, else in a temporary file.

    Attributes:
        name: of the field.
        filename: as the client calls it, without directories. Never open that name.
        content_type: as the client says.
        size: in bytes.
        file: the content, from its beginning; open until the form is closed.
    """

    __slots__ = ("content_type", "file", "filename", "name", "size")

    def __init__(self, part: Part) -> None:
        self.name = part.name
        self.filename = part.filename or ""
        self.content_type = part.content_type
        self.size = 0
        self.file: Any = SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115 (the form closes it)

    async def fill(self, response: HttpResponse, part: Part) -> None:
        """Take the content of a part."""
        runtime = response._route.runtime
        async for chunk in part:
            self.size += len(chunk)
            if self.size <= _SPOOLED:
                self.file.write(chunk)
            else:
                await in_thread(runtime, self.file.write, chunk)
        self.file.seek(0)


class FormData:
    """Hold a whole form: `async with await res.get_form_data() as form: form["name"]`.

    A name may come several times: `form["name"]` is the first, `get_all` gives all.
    The block's end closes the files; so does `close()`.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[str | UploadedFile]] = {}

    def add(self, name: str, value: str | UploadedFile) -> None:
        """Add a value behind those of the same name."""
        self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str | UploadedFile:
        return self._values[name][0]

    def get(self, name: str, default: str | None = None) -> str | UploadedFile | None:
        """Return the first value of a name, or `default`."""
        return self._values[name][0] if name in self._values else default

    def get_all(self, name: str) -> list[str | UploadedFile]:
        """Return all values of a name, in order."""
        return list(self._values.get(name, ()))

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def files(self) -> list[UploadedFile]:
        """Return the files, in order."""
        return [value for values in self._values.values() for value in values if isinstance(value, UploadedFile)]

    def close(self) -> None:
        """Close the files, and with them delete what is on disk."""
        for file in self.files:
            file.file.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


async def read_form(response: HttpResponse, limits: MultipartLimits) -> FormData:
    """Read a whole form, of either of the types that browsers send."""
    form = FormData()
    if parameters_of(_header(response))[0] == "application/x-www-form-urlencoded":
        content = await response._collected()
        for name, value in percent.pairs(content.decode("latin-1"), "the form"):
            form.add(name, value)
        return form
    try:
        async for part in Multipart(response, limits):
            if part.filename is None:
                form.add(part.name, await part.text())
            else:
                file = UploadedFile(part)
                form.add(part.name, file)
                await file.fill(response, part)
    except BaseException:
        form.close()
        raise
    return form
