"""What a host makes hvps wait for ends by the limits of the run, and in an undo by the undo's deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.contract.readings import ExtentPage
from hvpsbridge.errors import ExitCode, Interrupted, StoppedByPolicy
from hvpsbridge.sim.engines.operations import ANSWERS
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.units import MIB
from tests.tasks.wire import WireWorld
from tests.tasks.world import QUICK, Steps


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WireWorld]:
    made = WireWorld(tmp_path)
    yield made
    made.close()


def test_a_removal_that_hangs_in_an_undo_ends_at_the_undos_deadline(world: WireWorld) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    cancel = Cancellation()

    def stop() -> None:
        world.model.set_knob("job_seconds", 1e6)
        cancel.request("SIGTERM")

    limits = replace(QUICK.limits, undo_seconds=2.0, job_seconds=600)
    started = time.monotonic()
    result = world.backup(
        vm_id, policy=replace(QUICK, limits=limits), observer=Steps(("PROVE", "before"), stop), cancel=cancel
    )
    assert time.monotonic() - started < 60, "it waited for the job"
    assert isinstance(result.error, Interrupted)
    assert result.exit_code is ExitCode.TERMINATED
    assert any("recovery checkpoint" in left for left in result.leftovers)


def one_byte_at_a_time(context: object, given: dict[str, Any]) -> Iterator[ExtentPage]:
    yield ExtentPage(given["OffsetBytes"], 1, None)


@pytest.mark.parametrize("why", ["age", "signal"])
def test_a_host_that_crawls_is_left_in_time(
    world: WireWorld, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    world.backup(vm_id)
    monkeypatch.setitem(ANSWERS, "Get-HvpsDiskChange", one_byte_at_a_time)
    cancel = Cancellation()
    limits = QUICK.limits
    if why == "age":
        limits = replace(limits, checkpoint_age=2.0)
    else:
        threading.Timer(2.0, cancel.request, ("SIGTERM",)).start()
    started = time.monotonic()
    result = world.backup(vm_id, policy=replace(QUICK, limits=limits), cancel=cancel)
    assert time.monotonic() - started < 60
    assert isinstance(result.error, StoppedByPolicy if why == "age" else Interrupted)
    assert not result.leftovers
