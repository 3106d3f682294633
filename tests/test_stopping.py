"""A thread's work is stopped by the check it runs under, also in the threads that it starts."""

from __future__ import annotations

import contextvars
import threading

import pytest

from hvpsbridge import stopping


class Stop(Exception):
    """Raised by a check."""


def stop() -> None:
    raise Stop


def test_the_inner_check_alone_is_asked_and_the_outer_one_comes_back() -> None:
    stopping.check()
    with stopping.checked_by(stop):
        with stopping.checked_by(lambda: None):
            stopping.check()
            stopping.pause(0)
        with pytest.raises(Stop):
            stopping.check()
        with pytest.raises(Stop):
            stopping.pause(60)
    stopping.check()


def test_a_thread_started_with_the_context_has_the_check() -> None:
    seen: list[bool] = []

    def look() -> None:
        try:
            stopping.check()
        except Stop:
            seen.append(True)

    with stopping.checked_by(stop):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(look,))
        thread.start()
        thread.join()
    assert seen == [True]
