"""Ask for messages one by one: `async for message in ws`, `await ws.receive()`.

For routes without a `message` handler. Messages wait until they are asked for,
and the connection is not read while many do. Before anybody has asked, nobody
knows whether anybody will: as long as a coroutine handler runs that might, some
messages are kept for it. When more come than that, they are dropped, all of
them, and who asks then is told so: a server that only sends must not stop
reading its clients, and who reads must not miss a message without knowing. The
same holds when the task that asked has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from corkbind._ffi.constants import CK_THREAD
from corkbind._ffi.loader import lib
from corkbind.errors import ConnectionClosed, CorkbindError, refusal
from corkbind.ws_core import WebSocketCore
from corkbind.ws_pressure import LARGE, LONG, Pressure

if TYPE_CHECKING:
    from asyncio import Future

    from typing_extensions import Self

_ck_ws_buffered: Callable[[int], int] = lib.ck_ws_buffered

_TWO_WAYS = "cannot ask for messages: the route has a `message` handler, which is given them; leave it out to ask"
_TOO_LATE = "cannot ask for messages: some have come before, and were dropped; call aiter(ws) before the first wait"
_TWO_TASKS = "cannot ask for a message: another task waits for the next one already"


class Inbox:
    """Hold messages until they are asked for."""

    __slots__ = ("asked", "consumer", "messages", "waiter")

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        self.asked = False
        self.consumer: Any = None  # the task that asked last
        self.waiter: Future[None] | None = None

    def left_by(self, task: Any) -> bool:
        """Tell whether nobody asks any more when this task has ended."""
        return not self.asked or (self.consumer is task and self.waiter is None)

    @property
    def abandoned(self) -> bool:
        """Tell whether nobody has asked, or who has has ended."""
        return not self.asked or (self.consumer is not None and self.consumer.done() and self.waiter is None)

    def wake(self) -> None:
        """Let who waits look again."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class WebSocketInbox(WebSocketCore):
    """Give messages to who asks for them."""

    _inbox: Inbox | None = None
    _missed = False
    _pressure: Pressure | None = None

    def __aiter__(self) -> Self:
        """Keep all messages from now on, for whoever asks for them. The iteration ends with the WebSocket.

        Raises:
            CorkbindError: the route has a `message` handler, or messages came before and were dropped.
            WrongThread: iterate in the app's loop.
        """
        self._asked().consumer = None  # whoever goes on with what is returned
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    def receive(self) -> Coroutine[Any, Any, str | bytes]:
        """Return the next message when awaited: text as str, binary as bytes.

        Raises:
            ConnectionClosed: it is over, and all messages have been returned.
            CorkbindError: as for the iteration; or another task waits already.
            WrongThread: await it in the app's loop.
        """
        inbox = self._asked()
        task = self._route.runtime.running_task()  # and not one that `wait_for` makes
        if inbox.consumer is not task:
            inbox.consumer = task
            if task is not None:
                task.remove_done_callback(self._consumer_ended)
                task.add_done_callback(self._consumer_ended)
        return self._next_message(inbox)

    async def _next_message(self, inbox: Inbox) -> str | bytes:
        if inbox.waiter is not None and not inbox.waiter.cancelled():
            raise CorkbindError(_TWO_TASKS)
        while not inbox.messages:
            if self._closed:
                raise self._gone()
            inbox.waiter = waiter = self._route.runtime.create_future()
            try:
                await waiter
            finally:
                if inbox.waiter is waiter:  # else it was cancelled, and another task has come since
                    inbox.waiter = None
        message = inbox.messages.popleft()
        load = self._load()
        load.take(message)
        if load.paused and inbox.abandoned:  # a task that outlives who had made it ask
            self._forget()
        return message

    def _asked(self) -> Inbox:
        if _ck_ws_buffered(self._handle) == CK_THREAD:
            raise refusal(CK_THREAD, "ask for messages")
        inbox = self._inbox
        if inbox is None or not inbox.asked:
            if self._behavior.message is not None:
                raise CorkbindError(_TWO_WAYS)
            if self._missed:
                raise CorkbindError(_TOO_LATE)
            inbox = self._inbox = inbox or Inbox()
            inbox.asked = True
        return inbox

    def _load(self) -> Pressure:
        """Return the count of what waits."""
        if self._pressure is None:
            self._pressure = Pressure(self._handle)
        return self._pressure

    def _arrived(self, message: str | bytes, wanted: bool) -> None:
        """Take a message that no handler is given.

        Args:
            wanted: a coroutine runs that may come to ask for it.
        """
        inbox = self._inbox
        if inbox is None:
            if self._missed or not wanted:
                self._missed = True
                return
            inbox = self._inbox = Inbox()
        load = self._load()
        if inbox.abandoned and (load.count >= LONG - 1 or load.size + len(message) >= LARGE):
            self._forget()
            self._missed = True
            return
        inbox.messages.append(message)
        load.add(message)
        inbox.wake()

    def _left(self) -> None:
        """A coroutine handler has ended: what was kept for it is dropped."""
        inbox = self._inbox
        if inbox is not None and inbox.left_by(self._route.runtime.running_task()):
            self._forget()

    def _consumer_ended(self, task: Any) -> None:
        """The task that asked has ended: the connection must not wait for it."""
        inbox = self._inbox
        if inbox is not None and inbox.left_by(task) and self._load().paused:
            self._forget()

    def _forget(self) -> None:
        inbox = self._inbox
        if inbox is not None and not self._closed:
            self._inbox = None
            self._missed = bool(inbox.messages)
            for message in inbox.messages:
                self._load().take(message)
