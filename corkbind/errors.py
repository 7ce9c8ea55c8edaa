"""Name everything that can go wrong, and say it so that people can act on it.

    CorkbindError
    |-- LoadError (ImportError)         the compiled core is missing or does not fit
    |-- TlsError                        a certificate, key or cipher cannot be used
    |-- RequestExpired                  a request was used after its exchange was over
    |-- ResponseFinished                a response was written after its end
    |-- ResponseStarted                 a status or field after the body had begun
    |-- ConnectionClosed                the client has gone: code, reason
    |   `-- SocketClosed (ConnectionError)  the same of a raw socket or stream: errno, reason
    |-- WrongThread                     a thread touched what belongs to another
    |-- UncorkedWrite                   App(cork="strict"): a write outside any cork
    |-- BodyTooLarge                    answered with 413 when nobody catches it
    |-- BodyIncomplete                  the client left inside its body, or was too slow
    |-- BodyInUse                       a second reader of one body
    `-- BadRequest (ValueError)         answered with 400 when nobody catches it
        `-- BodyMalformed               the body's framing is broken

What an application gives that cannot be sent raises plain ValueError.
"""

from __future__ import annotations

from corkbind._ffi import constants as ck


class CorkbindError(Exception):
    """Be the base of all errors of this library."""

    #: The status that answers the request when no handler catches the error.
    status = 500


class LoadError(CorkbindError, ImportError):
    """Say that the compiled core is missing or does not fit."""


class TlsError(CorkbindError):
    """Say which file of a TLS app cannot be used, and why."""


class RequestExpired(CorkbindError):
    """Say that a request was used after its exchange was over."""


class ResponseFinished(CorkbindError):
    """Say that a response was written after its end."""


class ResponseStarted(CorkbindError):
    """Say that a status or field came after the head had left."""


class ConnectionClosed(CorkbindError):
    """Say that the connection is gone.

    Args:
        code: why, a number of ck_abort_reason.
        reason: the same for people.
    """

    def __init__(self, code: int = ck.CK_ABORT_CLIENT, reason: str = "") -> None:
        self.code = code
        self.reason = reason or ABORT_REASONS.get(code, "the connection closed")
        super().__init__(self.reason)


class SocketClosed(ConnectionClosed, ConnectionError):
    """Say that a raw socket, or a stream, is closed or closing.

    Args:
        code: the errno that it ended with; 0 for a clean end.
        reason: the same for people.
    """

    def __init__(self, code: int = 0, reason: str = "") -> None:
        super().__init__(code, reason or "the connection is closed")
        self.errno = code or None


class WrongThread(CorkbindError):
    """Say that a thread touched what belongs to another thread's loop."""


class UncorkedWrite(CorkbindError):
    """Say that App(cork="strict") saw a write outside any cork."""


class BodyTooLarge(CorkbindError):
    """Say that a request body is longer than its limit."""

    status = 413


class BodyIncomplete(CorkbindError):
    """Say that the client left, or was too slow, before its request body was complete."""

    status = 400


class BodyInUse(CorkbindError):
    """Say that a body was asked for in two ways."""


class BadRequest(CorkbindError, ValueError):
    """Say that the client sent what cannot be decoded."""

    status = 400


class BodyMalformed(BadRequest):
    """Say that the framing of a request body is broken."""


ABORT_REASONS: dict[int, str] = {
    ck.CK_ABORT_CLIENT: "the client closed the connection",
    ck.CK_ABORT_TIMEOUT: "the connection took too long and was closed",
    ck.CK_ABORT_SERVER: "the server closed the connection",
    ck.CK_ABORT_BODY: "the connection was closed because of its request body",
}

_EXPIRED = (
    "cannot {doing}: this exchange is over. A request that a plain function keeps for later "
    "needs req.preserve() while the handler runs"
)


def refusal(result: int, doing: str, given: object = None) -> Exception:
    """Make the exception for a refusing ck_result.

    Args:
        result: a negative ck_result.
        doing: what was attempted, as it follows "cannot": "write the header 'X'".
        given: the name, value or status that was refused.

    Returns:
        An exception to raise: ValueError when what was given cannot be sent.
    """
    make = _REFUSALS.get(result)
    if make is None:
        return CorkbindError(f"cannot {doing}: the core answered {result}")
    return make(doing, given)


def odd_character(value: object, allowed: str = "") -> str:
    """Name the first character that no field may hold, for a message.

    Args:
        value: str or bytes that was refused.
        allowed: further characters that are fine.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    for position, character in enumerate(text):
        if (character < " " and character != "\t" and character not in allowed) or character == "\x7f":
            return f"the control character {character!r} at position {position}"
    return "a character that may not be there"


def _bad_name(doing: str, given: object) -> Exception:
    return ValueError(f"cannot {doing}: the name {given!r} is not a token (letters, digits and !#$%&'*+-.^_`|~)")


def _bad_value(doing: str, given: object) -> Exception:
    return ValueError(f"cannot {doing}: the value holds {odd_character(given)}")


def _bad_status(doing: str, given: object) -> Exception:
    return ValueError(f"cannot {doing}: {given!r} is not a status from 200 to 599 with a plain reason")


def _bad_framing(doing: str, given: object) -> Exception:
    return ValueError(f"cannot {doing}: {given!r} would contradict how the server frames this message")


def _bad_length(doing: str, given: object) -> Exception:
    return ValueError(f"cannot {doing}: the body does not have the length that Content-Length declared")


def _wrong_thread(doing: str, given: object) -> Exception:
    return WrongThread(f"cannot {doing} from this thread: hand a function to the app's thread with app.defer(fn)")


_REFUSALS = {
    ck.CK_EXPIRED: lambda doing, given: RequestExpired(_EXPIRED.format(doing=doing)),
    ck.CK_FINISHED: lambda doing, given: ResponseFinished(f"cannot {doing}: the response has ended"),
    ck.CK_ABORTED: lambda doing, given: ConnectionClosed(),
    ck.CK_THREAD: _wrong_thread,
    ck.CK_NAME: _bad_name,
    ck.CK_VALUE: _bad_value,
    ck.CK_STATUS: _bad_status,
    ck.CK_FRAMING: _bad_framing,
    ck.CK_LENGTH: _bad_length,
    ck.CK_STARTED: lambda doing, given: ResponseStarted(f"cannot {doing}: the head of the response is complete"),
    ck.CK_NOMEM: lambda doing, given: MemoryError(f"cannot {doing}: out of memory"),
    ck.CK_STATE: lambda doing, given: CorkbindError(f"cannot {doing}: it does not fit the state of this exchange"),
    ck.CK_NOLOOP: _wrong_thread,
}
