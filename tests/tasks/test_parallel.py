"""Parallel work: all of it is done, or the first failure stops the rest and is raised."""

from __future__ import annotations

import threading

import pytest

from hvpsbridge.tasks.transfer.parallel import Halted, run_parallel
from tests.waiting import DEADLINE_SECONDS


def test_all_work_is_done_and_several_at_once() -> None:
    met = threading.Barrier(3)
    done: list[int] = []

    def work(number: int) -> None:
        met.wait(DEADLINE_SECONDS)
        done.append(number)

    run_parallel([lambda n=n: work(n) for n in range(6)], lambda: None, max_threads=3)  # type: ignore[misc]
    assert sorted(done) == list(range(6))


def test_the_first_failure_halts_the_others_and_is_the_one_told() -> None:
    halted = threading.Event()
    begun: list[str] = []

    def failing() -> None:
        begun.append("failing")
        raise ValueError("disk 1")

    def long() -> None:
        begun.append("long")
        assert halted.wait(DEADLINE_SECONDS)
        raise Halted

    def never() -> None:
        begun.append("never")

    with pytest.raises(ValueError, match="disk 1"):
        run_parallel([long, failing, never], halted.set, max_threads=2)
    assert sorted(begun) == ["failing", "long"]


def test_one_work_needs_no_thread() -> None:
    seen: list[threading.Thread] = []
    run_parallel([lambda: seen.append(threading.current_thread())], lambda: None)
    assert seen == [threading.current_thread()]
