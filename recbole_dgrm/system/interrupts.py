"""Interrupts that wait for the end of what does not bear them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

KEPT = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM wait for its end; then they do what they would have done.

    For short work in which a KeyboardInterrupt would look like an error or end the process. Python handles signals in
    the main thread alone; in another one the block has no interrupts anyway.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[int] = []
    # None: a handler that Python has not set and could not set again
    usual: dict[int, Any] = {number: found for number in KEPT if (found := signal.getsignal(number)) is not None}
    try:
        for number in usual:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(came):
            signal.raise_signal(number)
