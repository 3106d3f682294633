"""A signal that comes while a report is printed does not cost the report."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from hvpsbridge.cli import run_plays, signals
from hvpsbridge.cli.signals import interrupting, report_first, restoring_signals
from hvpsbridge.errors import Interrupted

from .conftest import Hvps, Served
from .world import World


@pytest.fixture
def missed() -> Iterator[list[int]]:
    """Signals that nothing of the product handled; they would have ended the process."""
    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda number, frame: seen.append(number))
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [False, True], ids=["late", "after-another"])
def test_a_signal_while_the_report_is_printed_does_not_cost_the_report(
    hvps: Hvps,
    served: Served,
    tmp_path: object,
    missed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    first: bool,
) -> None:
    world = World(hvps, served, served.folder.parent)
    world.build("web01")
    report = run_plays.print_report

    def late(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        return report(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run_plays, "print_report", late)
    if first:
        monkeypatch.setattr(
            run_plays.Runner, "_look_ahead", lambda runner, plays: os.kill(os.getpid(), signal.SIGTERM)
        )
    done = world.run("--json")
    assert json.loads(done.out)["exit_code"] == done.code == (143 if first else 0)
    assert not missed
    assert not signals._timers
    os.kill(os.getpid(), signal.SIGTERM)
    assert missed == [signal.SIGTERM]


def test_a_second_signal_does_not_cost_the_report_of_the_first(missed: list[int]) -> None:
    with restoring_signals():
        with pytest.raises(Interrupted), interrupting():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not missed


def test_a_report_that_nobody_reads_does_not_hold_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(signals, "REPORT_SECONDS", 0.01)
    monkeypatch.setattr(os, "_exit", ended.append)
    with restoring_signals():
        report_first()
        os.kill(os.getpid(), signal.SIGTERM)
        signals._timers[0].join(60)
    assert ended == [128 + signal.SIGTERM]
