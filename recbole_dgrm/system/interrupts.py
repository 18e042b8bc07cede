"""Delay interrupts until the end of work that must not be interrupted."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

DELAYED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM are delayed until its end.

    For short work in which a KeyboardInterrupt would look like an error or end the process. In other threads than the
    main one the block does nothing, because Python handles signals only in the main thread.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[int] = []
    # None is a handler that was not set by Python, which could not set it again
    usual: dict[int, Any] = {number: handler for number in DELAYED if (handler := signal.getsignal(number)) is not None}
    try:
        for number in usual:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)
