"""Asking in a thread of its own, where a client does not bound how long an answer takes."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def in_thread(ask: Callable[[], T]) -> "Future[T]":
    """Ask in a daemon thread, which holds up nobody's end when no answer comes; whatever it raises is in the future."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - the one who waits is told
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    return answer
