"""Check corkbind.Loop: who runs it, deferring from other threads, its end."""

from __future__ import annotations

import asyncio
import functools
import os
import select
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from corkbind import CorkbindError, Loop, WrongThread
from corkbind._ffi.loader import lib
from corkbind.bridge import _bridges


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as made:
        yield made
    assert lib.ck_loop_token() == 0, "the last Loop has closed the core's"


def in_asyncio(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test as the main task of an asyncio loop."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


def in_thread(function: Callable[[], object]) -> BaseException | None:
    """Run a function in another thread; return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


# -- Without asyncio --


def test_run_ends_where_nothing_is_open(loop: Loop) -> None:
    loop.run()
    assert not loop.running


def test_what_is_deferred_runs_before_the_end(loop: Loop) -> None:
    ran: list[object] = []

    def first() -> None:
        ran.append(loop.running)
        loop.defer(lambda: ran.append("second"))

    loop.defer(first)
    before = loop.iteration
    loop.run()
    assert ran == [True, "second"]
    assert loop.iteration > before


def test_defer_from_another_thread_wakes_the_wait(loop: Loop) -> None:
    threads: list[int] = []
    ready = threading.Event()

    def work() -> None:
        ready.wait()
        loop.defer(lambda: (threads.append(threading.get_ident()), done.set()))

    done = threading.Event()
    helper = threading.Thread(target=work)
    helper.start()

    def wait() -> None:  # keeps the loop going until the other thread has spoken
        ready.set()
        if not done.is_set():
            loop.defer(wait)

    loop.defer(wait)
    loop.run()
    helper.join()
    assert threads == [threading.get_ident()]


def test_stop_before_run_ends_it_after_one_step(loop: Loop) -> None:
    ran: list[int] = []
    loop.stop()
    loop.defer(lambda: (ran.append(1), loop.defer(lambda: ran.append(2))))
    loop.run()
    assert ran == [1]
    loop.run()
    assert ran == [1, 2]


def test_keyboard_interrupt_comes_out(loop: Loop) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.defer(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert not loop.running
    loop.run()


def test_a_signal_ends_the_wait(loop: Loop) -> None:
    def handler(number: int, frame: object) -> None:
        loop.stop()

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        loop.defer(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        loop.run()
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_errors_are_told() -> None:
    told: list[BaseException] = []
    with Loop(on_error=told.append) as loop:
        loop.defer(lambda: 1 / 0)
        loop.defer(lambda: told.append(KeyError("next")))
        loop.run()
    assert [type(error) for error in told] == [ZeroDivisionError, KeyError]


def test_an_on_error_that_raises_is_logged_with_what_it_was_told(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[int] = []

    def refuse(error: BaseException) -> None:
        raise LookupError("on_error")

    with Loop(on_error=refuse) as loop:
        loop.defer(lambda: 1 / 0)
        loop.defer(lambda: ran.append(1))
        loop.run()
    assert ran == [1]
    assert "ZeroDivisionError" in caplog.text
    assert "LookupError" in caplog.text


def test_an_on_error_may_end_the_loop() -> None:
    def end(error: BaseException) -> None:
        raise SystemExit(3)

    with Loop(on_error=end) as loop:
        loop.defer(lambda: 1 / 0)
        with pytest.raises(SystemExit):
            loop.run()


def test_errors_are_logged(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.defer(lambda: 1 / 0)
    loop.run()
    assert "ZeroDivisionError" in caplog.text


def test_what_run_refuses(loop: Loop) -> None:
    refused: list[str] = []

    def inside() -> None:
        for call in (loop.run, loop.close, loop.attach):
            with pytest.raises((CorkbindError, RuntimeError)) as caught:
                call()
            refused.append(str(caught.value))

    loop.defer(inside)
    loop.run()
    assert "runs already" in refused[0]
    assert "call stop()" in refused[1]
    assert "no asyncio loop" in refused[2]


# -- Inside asyncio --


@in_asyncio
async def test_it_joins_the_running_loop() -> None:
    with Loop() as loop:
        assert loop.running
        deferred = asyncio.get_running_loop().create_future()
        loop.defer(lambda: deferred.set_result("here"))
        assert await deferred == "here"
        with pytest.raises(CorkbindError, match="in an asyncio loop"):
            loop.run()
        loop.attach()
    assert loop.closed


@in_asyncio
async def test_errors_go_to_the_exception_handler() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with Loop() as loop:
        after = asyncio.get_running_loop().create_future()
        loop.defer(lambda: 1 / 0)
        loop.defer(lambda: after.set_result(None))
        await after
    assert isinstance(told[0]["exception"], ZeroDivisionError)


def test_from_one_asyncio_loop_to_the_next(loop: Loop) -> None:
    async def deferred() -> int:
        future = asyncio.get_running_loop().create_future()
        loop.join_running()
        loop.defer(lambda: future.set_result(loop.iteration))
        return int(await future)

    first = asyncio.run(deferred())
    assert asyncio.run(deferred()) > first
    loop.defer(lambda: None)
    loop.run()


def test_two_asyncio_loops_do_not_share_it(loop: Loop) -> None:
    first = asyncio.new_event_loop()

    async def attach() -> None:
        loop.attach()

    async def make() -> None:
        with pytest.raises(CorkbindError, match="another one"):
            Loop()
        with pytest.raises(CorkbindError, match="another one"):
            loop.join_running()

    first.run_until_complete(attach())
    asyncio.run(make())
    first.close()
    asyncio.run(attach())


# -- Threads, forks, the end --


def test_two_loops_of_a_thread_are_one(loop: Loop) -> None:
    with Loop() as other:
        ran: list[int] = []
        other.defer(lambda: ran.append(1))
        loop.run()
        assert ran == [1]
    assert other.closed
    assert not loop.closed


def test_other_threads_have_their_own(loop: Loop) -> None:
    for call in (loop.run, loop.close, lambda: loop.iteration):
        error = in_thread(call)
        assert isinstance(error, WrongThread)
        assert "loop.defer" in str(error)

    def own() -> None:
        with Loop() as other:
            other.defer(lambda: None)
            other.run()

    assert in_thread(own) is None


def test_a_thread_that_left_its_loop_open_leaves_nothing_to_the_next_of_its_number() -> None:
    left: list[Loop] = []

    def leave() -> None:
        left.append(Loop())
        _bridges.pop(threading.get_ident())
        lib.ck_loop_close()

    def begin() -> None:
        _bridges[threading.get_ident()] = left[0]._bridge  # as where the system gives the number once more
        ran: list[int] = []
        with Loop() as loop:
            assert left[0].closed
            loop.defer(lambda: ran.append(1))
            poll = select.poll()
            poll.register(lib.ck_loop_fd(), select.POLLIN)
            assert poll.poll(0), "it is woken"
            loop.run()
        assert ran == [1]
        assert threading.get_ident() not in _bridges

    assert in_thread(leave) is None
    assert in_thread(begin) is None


def test_after_the_end() -> None:
    loop = Loop()
    loop.close()
    loop.close()
    assert loop.closed
    for call in (loop.run, lambda: loop.defer(print), lambda: loop.iteration, loop.attach):
        with pytest.raises(CorkbindError, match="closed"):
            call()
    loop.stop()
    loop.wakeup()


def test_defer_takes_functions(loop: Loop) -> None:
    with pytest.raises(TypeError, match="not int"):
        loop.defer(1)  # type: ignore[arg-type]


def test_in_the_child_of_a_fork_it_is_closed(loop: Loop) -> None:
    child = os.fork()
    if child == 0:
        good = loop.closed
        try:
            loop.defer(print)
        except CorkbindError:
            with Loop() as own:
                loop.close()
                loop._bridge.close()
                good = good and not own.closed and lib.ck_loop_token() != 0
                own.run()
            os._exit(0 if good else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert not loop.closed
