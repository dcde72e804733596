"""Ctrl-C that does not get lost: Python drops a KeyboardInterrupt that falls into a callback of a C library."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_pressed = threading.Event()


@contextlib.contextmanager
def heed_interrupts() -> Iterator[None]:
    """Remember within the block that Ctrl-C was pressed, for `raise_if_interrupted`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def press(_number: int, _frame: FrameType | None) -> NoReturn:
        _pressed.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        _pressed.clear()
        signal.signal(signal.SIGINT, before)


def raise_if_interrupted() -> None:
    """Raise the KeyboardInterrupt of a Ctrl-C that was pressed and dropped; long loops call this once a turn."""
    if _pressed.is_set():
        raise KeyboardInterrupt
