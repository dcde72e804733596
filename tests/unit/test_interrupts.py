import contextlib
import os
import signal

import pytest

from boldstream.interrupts import heed_interrupts, raise_if_interrupted


def test_interrupt__that_was_dropped_comes_at_the_next_turn():
    with heed_interrupts():
        raise_if_interrupted()
        with contextlib.suppress(KeyboardInterrupt):  # as a C library's callback drops it
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
    raise_if_interrupted()


def test_interrupt__is_pythons_own_again_after_the_block():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), heed_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    raise_if_interrupted()
