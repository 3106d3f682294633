"""Pauses double up to a bound, and a limit ends the tries with the last error."""

from __future__ import annotations

import pytest

from hvpsbridge.backoff import Backoff, retry

ERROR = OSError("not now")


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.failed(ERROR) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_success_starts_over() -> None:
    backoff = Backoff(1, 60, max_failures=3)
    backoff.failed(ERROR)
    backoff.failed(ERROR)
    assert (backoff.failing, backoff.failures) == (True, 2)
    backoff.reset()
    assert (backoff.failing, backoff.failures) == (False, 0)
    assert backoff.failed(ERROR) == 1


def test_the_last_allowed_failure_is_raised() -> None:
    backoff = Backoff(1, 60, max_failures=2)
    backoff.failed(ERROR)
    with pytest.raises(OSError, match="not now"):
        backoff.failed(ERROR)


def test_failures_that_do_not_count_are_bounded_by_time_alone() -> None:
    clock = Clock()
    backoff = Backoff(1, 60, max_failures=1, give_up_seconds=10, clock=clock)
    for _ in range(5):
        backoff.failed(ERROR, counts=False)
    clock.now += 10.5
    with pytest.raises(OSError, match="not now"):
        backoff.failed(ERROR, counts=False)


def test_retry_pauses_between_tries_and_reports_each() -> None:
    errors = [OSError("first"), OSError("second")]
    pauses: list[float] = []
    reports: list[str] = []

    def call() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    result = retry(
        call,
        OSError,
        Backoff(1, 60),
        pause=pauses.append,
        on_retry=lambda err, seconds: reports.append(f"{err} {seconds:.0f}"),
    )
    assert (result, pauses, reports) == ("done", [1, 2], ["first 1", "second 2"])


def test_retry_raises_other_errors_at_once() -> None:
    def call() -> str:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        retry(call, OSError, Backoff(1, 60), pause=lambda _seconds: pytest.fail("paused"))


def test_retry_ends_when_the_pause_raises() -> None:
    def call() -> str:
        raise ERROR

    def pause(_seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry(call, OSError, Backoff(1, 60), pause=pause)


def test_retry_ends_with_the_last_error_when_the_pause_returns_false() -> None:
    errors = [OSError("first"), OSError("second")]
    answers = [True, False]

    def call() -> str:
        raise errors.pop(0)

    with pytest.raises(OSError, match="second"):
        retry(call, OSError, Backoff(1, 60), pause=lambda _seconds: answers.pop(0))
