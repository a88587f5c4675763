"""Wait in the event loop for a call that blocks, and for no longer than one may."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from validation.domain import Seconds

Answer = TypeVar("Answer")


async def call_in_thread(call: Callable[[], Answer], *, within_s: Seconds | None = None) -> Answer:
    """Make a call in a thread of its own, and return its answer.

    Whoever gives up, or is cancelled, leaves the thread to itself. It is no thread of the event loop's, nor of any
    pool: the end of a process waits for those, and so for a server that took a question and never answers.

    Raises:
        TimeoutError: it has not returned within ``within_s``.
    """
    answer: Future[Answer] = Future()
    answer.set_running_or_notify_cancel()  # so that giving up does not cancel it under its thread

    def answer_it() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again, where it is awaited
            answer.set_exception(error)

    threading.Thread(target=answer_it, daemon=True).start()
    return await asyncio.wait_for(asyncio.wrap_future(answer), within_s)
