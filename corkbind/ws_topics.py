"""Subscribe to topics, and publish to those who have.

A topic is a name: str, or bytes; the same bytes are the same topic. It is there
while somebody has subscribed. What is published in an iteration of the loop leaves
at its end, in one send for each subscriber.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.errors import refusal
from corkbind.ws_payload import BINARY, COMPRESS, TEXT, payload_of

if TYPE_CHECKING:
    from corkbind.exchange import Route
    from corkbind.ws_behavior import WebSocketBehavior

_ck_ws_subscribe: Callable[[int, bytes, int], int] = lib.ck_ws_subscribe
_ck_ws_unsubscribe: Callable[[int, bytes, int], int] = lib.ck_ws_unsubscribe
_ck_ws_subscribed: Callable[[int, bytes, int], int] = lib.ck_ws_subscribed
_ck_ws_topics: Callable[[int], list[str]] = lib.ck_py_ws_topics
_ck_ws_publish: Callable[[int, bytes, int, bytes, int, int, bytes, int], int] = lib.ck_ws_publish

Topic = str | bytes
Dumps = Callable[[Any], str | bytes]

_OVER: Final = (ck.CK_EXPIRED, ck.CK_FINISHED, ck.CK_ABORTED)


def topic_name(topic: Topic, what: str = "topic", least: int = 1) -> bytes:
    """Return the bytes of a topic or key.

    Raises:
        TypeError: it is neither str nor bytes.
        ValueError: it is empty or too long, or str with a lone surrogate.
    """
    if type(topic) is str:
        name = topic.encode("utf-8", "surrogateescape")
    elif isinstance(topic, bytes):
        name = bytes(topic)
    elif isinstance(topic, str):
        name = str(topic).encode("utf-8", "surrogateescape")
    else:
        raise TypeError(f"a {what} is str or bytes, not {type(topic).__name__}")
    if not least <= len(name) <= ck.CK_TOPIC_BYTES:
        raise ValueError(f"a {what} has {least} to {ck.CK_TOPIC_BYTES} bytes, not {len(name)}")
    return name


def _payload(message: Any, opcode: int | None, dumps: Dumps) -> tuple[bytes, int]:
    """Return the bytes of a message, and its opcode."""
    data, kind = (b"", TEXT) if message is None else payload_of(message, dumps)
    if len(data) > ck.HOT_LENGTH:
        raise ValueError(f"cannot publish a message of {len(data)} bytes: 2**31 - 1 at most")
    if opcode is None:
        return data, kind
    if opcode not in (TEXT, BINARY):
        raise ValueError(f"cannot publish opcode {opcode!r}: messages are TEXT or BINARY")
    return data, int(opcode)


def publish_arguments(
    topic: Topic, message: Any, opcode: int | None, compress: bool, key: Topic | None, dumps: Dumps
) -> tuple[Any, ...]:
    """Return what follows the handle in a call that publishes."""
    name = topic_name(topic)
    data, first = _payload(message, opcode, dumps)
    if compress:
        first |= COMPRESS
    if key is None:
        return name, len(name), data, len(data), first, b"", -1
    mark = topic_name(key, "key", 0)
    return name, len(name), data, len(data), first, mark, len(mark)


def publishing_refused(result: int, doing: str) -> Exception:
    """Return what a refusal of the core's stands for; names and numbers have been checked here."""
    if result == ck.CK_VALUE:
        return ValueError("cannot publish these bytes as TEXT: they are not UTF-8")
    return refusal(result, doing)


class TopicMethods:
    """Be a subscriber and a publisher; WebSocket is one."""

    _handle: int
    _behavior: WebSocketBehavior
    _route: Route

    def subscribe(self, topic: Topic) -> bool:
        """Receive from now on what is published to a topic, of 1 to 1,024 bytes.

        Returns:
            False when it is subscribed already, or the WebSocket is closed or closing.

        Raises:
            TypeError: the topic is neither str nor bytes.
            ValueError: it is empty or too long.
            WrongThread: the WebSocket belongs to another thread.
        """
        name = topic_name(topic)
        count = _ck_ws_subscribe(self._handle, name, len(name))
        if count > 0:
            self._subscription_changed(name, count, count - 1)
        return self._changed(count, "subscribe")

    def unsubscribe(self, topic: Topic) -> bool:
        """Receive no more of a topic; what is published already still comes.

        Returns:
            False when it was not subscribed. At the end of the WebSocket all
            subscriptions end by themselves.

        Raises:
            TypeError, ValueError, WrongThread: as subscribe.
        """
        name = topic_name(topic)
        count = _ck_ws_unsubscribe(self._handle, name, len(name))
        if count > 0:
            self._subscription_changed(name, count - 1, count)
        return self._changed(count, "unsubscribe")

    def is_subscribed(self, topic: Topic) -> bool:
        """Tell whether a topic is subscribed.

        Raises:
            TypeError, ValueError, WrongThread: as subscribe.
        """
        name = topic_name(topic)
        return self._changed(_ck_ws_subscribed(self._handle, name, len(name)), "ask for a topic of")

    def get_topics(self) -> list[str]:
        """Return the topics in the order of subscribing; bytes that are not UTF-8 as surrogates."""
        try:
            return _ck_ws_topics(self._handle)
        except ValueError:
            raise refusal(ck.CK_THREAD, "ask for the topics of the WebSocket") from None

    def for_each_topic(self, function: Callable[[str], object]) -> None:
        """Call `function(topic)` for each topic that is subscribed now; it may change that."""
        for topic in self.get_topics():
            function(topic)

    def publish(
        self, topic: Topic, message: Any, opcode: int | None = None, compress: bool = False, key: Topic | None = None
    ) -> bool:
        """Send a message to all others who have subscribed to a topic, whether this one has or not.

        Args:
            message: str as text, bytes as binary, None as empty text, anything else as JSON.
            opcode: OpCode.TEXT or BINARY in place of what the type says.
            compress: for those subscribers who have agreed on compression.
            key: latest only: the message takes the place of an older one with the same
                key that has been published to the topic, wherever that is not sent yet.

        Returns:
            False when nobody was there to get it, or this WebSocket is over.

        Raises:
            TypeError: topic or key is neither str nor bytes, or the message is nothing that JSON can say.
            ValueError: topic or key is too long, or the topic empty; another opcode; a lone surrogate.
            MemoryError, WrongThread
        """
        arguments = publish_arguments(topic, message, opcode, compress, key, self._route.runtime.dumps)
        count = _ck_ws_publish(self._handle, *arguments)
        return self._changed(count, "publish from")

    def _changed(self, result: int, doing: str) -> bool:
        if result < 0 and result not in _OVER:
            raise publishing_refused(result, f"{doing} the WebSocket")
        return result > 0

    def _subscription_changed(self, topic: bytes, count: int, before: int) -> None:
        handler = self._behavior.subscription
        if handler is not None:
            self._run(handler, topic.decode("utf-8", "surrogateescape"), count, before)

    def _run(self, handler: Callable[..., Any], *arguments: Any) -> None:
        """Run a handler in its turn; the class that knows tasks does."""
        raise NotImplementedError
