"""Let an app publish to the topics of its WebSockets, and count their subscribers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corkbind._ffi.loader import lib
from corkbind.stats import AppStats
from corkbind.ws_topics import Topic, publish_arguments, publishing_refused, topic_name

_ck_app_publish: Callable[[int, bytes, int, bytes, int, int, bytes, int], int] = lib.ck_app_publish
_ck_app_subscribers: Callable[[int, bytes, int], int] = lib.ck_app_subscribers


class AppTopics(AppStats):
    """Publish from outside of any WebSocket."""

    def publish(
        self, topic: Topic, message: Any, opcode: int | None = None, compress: bool = False, key: Topic | None = None
    ) -> bool:
        """Send a message to all who have subscribed to a topic; as `WebSocket.publish`.

        Returns:
            False when nobody was there to get it.

        Raises:
            TypeError, ValueError, MemoryError: as `WebSocket.publish`.
            WrongThread: use app.defer.
        """
        arguments = publish_arguments(topic, message, opcode, compress, key, self._dispatcher.dumps)
        self._check_publisher("publish")
        result = _ck_app_publish(self._native, *arguments) if self._native else 0
        if result < 0:
            raise publishing_refused(result, "publish")
        return result > 0

    def num_subscribers(self, topic: Topic) -> int:
        """Return how many have subscribed to a topic.

        Raises:
            TypeError: the topic is neither str nor bytes.
            ValueError: it is empty or too long.
            WrongThread: ask by app.defer.
        """
        name = topic_name(topic)
        self._check_publisher("count subscribers")
        return _ck_app_subscribers(self._native, name, len(name)) if self._native else 0

    def _check_publisher(self, doing: str) -> None:
        bridge = self._dispatcher.bridge
        if self._native and bridge is not None:
            bridge.check_thread(doing)
