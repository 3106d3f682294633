"""The effect of an operation decides whether it is tried again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvpsbridge.contract import Effect
from hvpsbridge.errors import HostBusy, HostError, HostUnreachable, OperationFailed, SessionLost, VmBusy
from hvpsbridge.host.retry import by_effect, while_busy

LOST = SessionLost("hv01", "Get-HvpsVm", "gone")
SAID_NO = OperationFailed("hv01", "Get-HvpsVm", "Hvps.JobFailed", "NotSpecified", None, "no")


class Script:
    """Raises the given errors, one per call, then returns."""

    def __init__(self, *problems: HostError) -> None:
        self.problems = list(problems)
        self.log: list[str] = []

    def call(self) -> str:
        self.log.append("call")
        if self.problems:
            raise self.problems.pop(0)
        return "answer"

    def renew(self) -> None:
        self.log.append("renew")


def run(effect: Effect, script: Script, renew: Callable[[], None] | None = None) -> str:
    return by_effect(effect, script.call, renew or script.renew, first_pause_seconds=0)


@pytest.mark.parametrize("effect", [Effect.READS, Effect.REMOVES])
def test_what_reads_or_removes_is_tried_again_on_a_new_session(effect: Effect) -> None:
    script = Script(LOST, LOST)
    assert run(effect, script) == "answer"
    assert script.log == ["call", "renew", "call", "renew", "call"]


def test_what_creates_is_never_tried_again() -> None:
    script = Script(LOST)
    with pytest.raises(SessionLost):
        run(Effect.CREATES, script)
    assert script.log == ["call"]


@pytest.mark.parametrize("effect", list(Effect))
def test_an_error_that_the_host_reported_is_an_answer(effect: Effect) -> None:
    script = Script(SAID_NO)
    with pytest.raises(OperationFailed):
        run(effect, script)
    assert script.log == ["call"]


def test_it_gives_up_after_a_few_tries_with_the_last_error() -> None:
    script = Script(*[LOST] * 9)
    with pytest.raises(SessionLost):
        run(Effect.READS, script)
    assert script.log.count("call") == 4


def test_a_session_that_cannot_be_had_counts_as_a_try() -> None:
    script = Script(LOST)
    tries = []

    def renew() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise HostUnreachable("hv01", "refused")

    assert run(Effect.READS, script, renew) == "answer"
    assert len(tries) == 3
    assert script.log == ["call", "call"]


def busy() -> VmBusy:
    return VmBusy("hv01", "Get-HvpsVm", "Hvps.VmBusy", "ResourceBusy", None, "in use")


def test_reading_is_tried_again_while_the_vm_is_in_use() -> None:
    script = Script(busy(), busy(), LOST, busy())
    assert run(Effect.READS, script) == "answer"
    assert script.log.count("call") == 5
    script = Script(*[busy()] * 9)
    with pytest.raises(VmBusy):
        run(Effect.READS, script)
    assert script.log == ["call"] * 5


@pytest.mark.parametrize("effect", [Effect.CREATES, Effect.REMOVES])
def test_nothing_else_is_tried_again_for_a_vm_in_use(effect: Effect) -> None:
    script = Script(busy())
    with pytest.raises(VmBusy):
        run(effect, script)
    assert script.log == ["call"]


def test_opening_a_shell_is_tried_again_while_the_host_says_not_now() -> None:
    script = Script(HostBusy("hv01", "HTTP 503"), HostBusy("hv01", "HTTP 503"))
    assert while_busy(script.call, first_pause_seconds=0) == "answer"
    assert script.log == ["call"] * 3


def test_opening_a_shell_where_nobody_answers_is_not_tried_again() -> None:
    script = Script(HostUnreachable("hv01", "connection refused"))
    with pytest.raises(HostUnreachable):
        while_busy(script.call, first_pause_seconds=0)
    assert script.log == ["call"]


def test_a_host_that_stays_busy_is_given_up() -> None:
    script = Script(*[HostBusy("hv01", "HTTP 503")] * 9)
    with pytest.raises(HostBusy):
        while_busy(script.call, attempts=3, first_pause_seconds=0)
    assert script.log == ["call"] * 3
