"""Be a WebSocket client of a loopback: open, send messages or frames that break the rules, and see what comes back."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from corkbind.enums import OpCode
from corkbind.testing.oracles import LoopbackViolation
from corkbind.testing.reader import Response, read_response
from corkbind.testing.ws_deflate import RSV1, Agreement, DeflateError, Deflater, Offer, read_agreement, write_offer
from corkbind.testing.ws_frames import Frame, accept_of, close_payload, encode_handshake, fragments, pieces
from corkbind.testing.ws_reader import Event, FrameReader, WebSocketError

if TYPE_CHECKING:
    from corkbind.testing.connection import Connection
    from corkbind.testing.loopback import Loopback
    from corkbind.testing.tls_options import TlsLike

Mask = bytes | Literal[False] | None


class WebSocketRefused(Exception):
    """The server has answered the opening handshake with something else than 101; `response` is that."""

    def __init__(self, target: str, response: Response) -> None:
        text = response.body[:200].decode("utf-8", "replace")
        super().__init__(f"the WebSocket {target} was refused: {response.status} {response.reason}: {text}")
        self.response = response


class WebSocketClient:
    """Hold the client's end of a WebSocket; `Loopback.websocket` makes one.

    What sends runs the loopback until nothing is ready, and no time passes;
    `run=False` leaves that to the next call. Each of them raises WebSocketError
    when the server has broken the protocol.

    Lifetime: as of its connection.
    """

    def __init__(
        self, connection: Connection, response: Response, agreement: Agreement | None, answer: bool, masks: random.Random
    ) -> None:
        #: The connection below: its window, its writes, its FIN and reset.
        self.connection = connection
        #: The answer to the opening handshake.
        self.response = response
        #: The subprotocol that the server chose.
        self.protocol = response.header("sec-websocket-protocol")
        #: What was agreed on permessage-deflate.
        self.agreement = agreement
        #: Pings and close frames are answered as they come, and the connection ends with the server's FIN.
        self.answer = answer
        #: All messages that have come, also those that `recv` has returned.
        self.messages: list[str | bytes] = []
        #: All that has come, in order: messages, pings, pongs, the close.
        self.events: list[Event] = []
        #: The server's close frame: its code, 1005 when it carries none; None before.
        self.close_code: int | None = None
        self.close_reason = ""
        #: A close frame has been sent.
        self.closing = False
        self._masks = masks
        self._read = 0
        self._reader = FrameReader(agreement)
        self._deflater: Deflater | None = None
        if agreement is not None:
            self._deflater = Deflater(agreement.client_max_window_bits, not agreement.client_no_context_takeover)
        self._failure: WebSocketError | None = None

    # -- Sending --

    def send_text(
        self,
        text: str,
        *,
        fragments: Sequence[int] = (),
        pieces: Sequence[int] = (),
        compress: bool | None = None,
        run: bool = True,
    ) -> WebSocketClient:
        """Send a text message.

        Args:
            fragments: bytes of the first frames; one more carries what is left.
            pieces: sizes of the reads in which it arrives, again and again; () = one.
            compress: by permessage-deflate; None = when that was agreed on.
            run: let the server read it.

        Raises:
            ValueError: the client has sent its FIN; or `compress`, and nothing was agreed on.
        """
        return self._message(OpCode.TEXT, text.encode(), fragments, pieces, compress, run)

    def send_bytes(
        self,
        data: bytes,
        *,
        fragments: Sequence[int] = (),
        pieces: Sequence[int] = (),
        compress: bool | None = None,
        run: bool = True,
    ) -> WebSocketClient:
        """Send a binary message; the rest as send_text."""
        return self._message(OpCode.BINARY, bytes(data), fragments, pieces, compress, run)

    def _message(
        self, opcode: int, data: bytes, sizes: Sequence[int], reads: Sequence[int], compress: bool | None, run: bool
    ) -> WebSocketClient:
        packed = self._deflater is not None if compress is None else compress
        if packed:
            if self._deflater is None:
                raise ValueError("cannot compress: permessage-deflate was not agreed on")
            data = self._deflater.compress(data)
        frames = fragments(opcode, data, sizes, None, RSV1 if packed else 0)
        stream = b"".join(Frame(f.opcode, f.payload, f.fin, f.rsv, self._mask(None)).encode() for f in frames)
        return self._send(stream, reads, run)

    def ping(self, data: bytes = b"", *, run: bool = True) -> WebSocketClient:
        """Send a ping; the answer is among `events`."""
        return self.send_frame(OpCode.PING, data, run=run)

    def pong(self, data: bytes = b"", *, run: bool = True) -> WebSocketClient:
        """Send a pong."""
        return self.send_frame(OpCode.PONG, data, run=run)

    def close(self, code: int | None = 1000, reason: str = "", *, run: bool = True) -> WebSocketClient:
        """Send a close frame, with any code; None = without one."""
        return self.send_frame(OpCode.CLOSE, close_payload(code, reason), run=run)

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        mask: Mask = None,
        form: Literal[7, 16, 64] | None = None,
        pieces: Sequence[int] = (),
        run: bool = True,
    ) -> WebSocketClient:
        """Send one frame, also one that no client may send.

        Args:
            rsv: the reserved bits; 4 is RSV1.
            mask: four bytes; False = none; None = one that the loopback's seed gives.
            form: bits of the length, 7, 16 or 64; None = as few as will do.
            pieces, run: as for send_text.

        Raises:
            ValueError: a part does not fit into a frame, or the client has sent its FIN.
        """
        frame = Frame(opcode, bytes(payload), fin, rsv, self._mask(mask), form).encode()
        if opcode == OpCode.CLOSE:
            self.closing = True
        return self._send(frame, pieces, run)

    def raw(self, data: bytes, *, pieces: Sequence[int] = (), run: bool = True) -> WebSocketClient:
        """Send bytes as they are."""
        return self._send(bytes(data), pieces, run)

    def _mask(self, mask: Mask) -> bytes | None:
        if mask is False:
            return None
        return self._masks.randbytes(4) if mask is None else mask

    def _send(self, data: bytes, sizes: Sequence[int], run: bool) -> WebSocketClient:
        for piece in pieces(data, sizes):
            self.connection.send(piece)
        return self.run() if run else self

    # -- Receiving --

    def run(self) -> WebSocketClient:
        """Run the loopback until nothing is ready; no time passes.

        Raises:
            WebSocketError: the server has broken the protocol.
            LoopbackViolation, BaseException: as Loopback.run.
        """
        self.connection._owner.run()
        if self._failure is not None:
            raise self._failure
        return self

    def recv(self, seconds: float = 0.0) -> str | bytes | None:
        """Return the next message; None when there is none.

        Args:
            seconds: of virtual time that may pass until one is there.

        Raises:
            WebSocketError: the server has broken the protocol.
            LoopbackViolation, BaseException: as Loopback.run.
        """
        self.run()
        if seconds:
            self.connection._owner._pass_until(lambda: len(self.messages) > self._read or self.closed, seconds)
            self.run()
        if self._read == len(self.messages):
            return None
        self._read += 1
        return self.messages[self._read - 1]

    @property
    def closed(self) -> bool:
        """Tell whether the server has sent a close frame, or has closed the connection."""
        return self.close_code is not None or self.connection.closed is not None

    def _take(self, data: bytes) -> None:
        """Take in what the server has sent, and answer what a client answers by itself."""
        before = len(self.events)
        if self._failure is None:
            try:
                self._reader.feed_into(data, self.events)
            except WebSocketError as error:
                self._failure = error
        for event in self.events[before:]:
            self._took(event)
        if self.answer and self.connection.closed and self.close_code is not None and not self.connection.ended:
            self.connection.fin()

    def _took(self, event: Event) -> None:
        if event.kind == "message":
            self.messages.append(event.data)
        elif event.kind == "close":
            self.close_code, self.close_reason = event.code, str(event.data)
            if not self.closing:
                self._answer(OpCode.CLOSE, close_payload(None if event.code == 1005 else event.code))
        elif event.kind == "ping":
            self._answer(OpCode.PONG, bytes(event.data))  # type: ignore[arg-type]

    def _answer(self, opcode: OpCode, payload: bytes) -> None:
        if self.answer and not self.connection.ended:
            self.send_frame(opcode, payload, run=False)

    def __repr__(self) -> str:
        state = "open" if self.close_code is None else f"closed {self.close_code}"
        return f"<WebSocketClient on connection {self.connection.id}: {len(self.messages)} messages received, {state}>"


def open_websocket(
    loopback: Loopback,
    target: str,
    protocols: Sequence[str],
    headers: Iterable[tuple[str, str]],
    deflate: bool | Offer | None,
    peer: tuple[str, int] | None,
    tls: TlsLike,
    answer: bool,
) -> WebSocketClient:
    """Connect, and do the opening handshake; `Loopback.websocket` says the rest."""
    masks = loopback._masks
    key = b64encode(masks.randbytes(16)).decode("ascii")
    given = list(headers)
    offer = write_offer(deflate)
    request = encode_handshake(target, key, given, protocols, offer)
    connection = loopback.connect(peer, tls=tls)
    connection.send(request)
    loopback.finish()
    connection.require_handshake()
    received = connection.recv()
    found = read_response(received, 0, "GET", connection.closed is not None)
    if found is None:
        raise LoopbackViolation(f"the handshake of the WebSocket {target} has no answer, only {received[:200]!r}")
    response, end = found
    if response.status != 101:
        raise WebSocketRefused(target, response)
    offered = ", ".join(value for name, value in given if name.lower() == "sec-websocket-extensions") or offer
    names = [value for name, value in given if name.lower() == "sec-websocket-key"]
    agreement = check_handshake(response, names[-1] if names else key, _offered(protocols, given), offered)
    client = WebSocketClient(connection, response, agreement, answer, masks)
    connection._heard = client._take
    client._take(received[end:])
    return client.run()


def _offered(protocols: Sequence[str], headers: list[tuple[str, str]]) -> list[str]:
    given = [value for name, value in headers if name.lower() == "sec-websocket-protocol"]
    return [name.strip() for value in given for name in value.split(",")] if given else list(protocols)


def check_handshake(response: Response, key: str, protocols: Sequence[str], offer: str) -> Agreement | None:
    """Return what a 101 agrees to on permessage-deflate.

    Args:
        key: the client's.
        protocols: those that it offers.
        offer: its Sec-WebSocket-Extensions; "" for none.

    Raises:
        WebSocketError: it is no answer to what was asked.
    """
    if (response.header("upgrade") or "").lower() != "websocket" or (response.header("connection") or "").lower() != "upgrade":
        raise WebSocketError("a 101 without Upgrade: websocket and Connection: Upgrade")
    accept = response.header("sec-websocket-accept")
    if accept != accept_of(key):
        raise WebSocketError(f"Sec-WebSocket-Accept is {accept!r}, and to this key it must be {accept_of(key)!r}")
    protocol = response.header("sec-websocket-protocol")
    if protocol is not None and protocol not in protocols:
        raise WebSocketError(f"the server chose the subprotocol {protocol!r}, which was not offered")
    try:
        return read_agreement(response.header("sec-websocket-extensions"), offer)
    except DeflateError as error:
        raise WebSocketError(str(error)) from error
