"""SIGKILL, SIGINT and SIGTERM at every step of a backup over the wire, in a process of its own.

The killed process's shells, with the disks they hold, live on at the host, as a dead client's do.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, RepositoryLocked
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.wire import WireWorld

# After a step is before the next one; test_backup_crashes strikes both.
MOMENTS = [*((step.name, "before") for step in Step), (list(Step)[-1].name, "after")]


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WireWorld, UUID]]:
    """A world over the wire whose VM has been backed up once."""
    world = WireWorld(tmp_path_factory.mktemp("kills"))
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    yield world, vm_id
    world.close()


@pytest.mark.parametrize("at", MOMENTS, ids=lambda at: f"{at[1]}-{at[0].lower()}")
def test_a_kill_at_any_step_loses_nothing(wired: tuple[WireWorld, UUID], at: tuple[str, str]) -> None:
    world, vm_id = wired
    world.churn(vm_id)
    before = len(world.repository.catalog.points(vm_id))
    killed = world.struck(vm_id, *at, "SIGKILL")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    world.repository.refresh()
    assert len(world.repository.catalog.points(vm_id)) - before in (0, 1)
    world.churn(vm_id)
    assert world.good_backup(vm_id).disks[0].mode is Mode.INCREMENTAL
    newest = world.repository.catalog.points(vm_id)[-2:]
    for point in newest:
        world.assert_point_equal(point)


@pytest.mark.parametrize(
    ("signal_name", "step"),
    [("SIGINT", Step.READ), ("SIGTERM", Step.MAKE_CHECKPOINT), ("SIGTERM", Step.CONVERT)],
    ids=lambda value: value if isinstance(value, str) else value.name.lower(),
)
def test_a_real_signal_undoes_and_says_so(
    wired: tuple[WireWorld, UUID], signal_name: str, step: Step
) -> None:
    world, vm_id = wired
    world.churn(vm_id)
    stopped = world.struck(vm_id, step.name, "before", signal_name)
    assert stopped.returncode == (ExitCode.INTERRUPTED if signal_name == "SIGINT" else ExitCode.TERMINATED)
    told = json.loads(stopped.stdout)
    assert told["error"] == "Interrupted"
    assert told["left"] == []
    assert (told["point"] is not None) == (step.row > 8)
    world.repository.refresh()
    world.assert_clean(vm_id)


def test_a_process_that_sleeps_past_every_time_out_goes_on_or_undoes(
    wired: tuple[WireWorld, UUID],
) -> None:
    world, vm_id = wired
    world.churn(vm_id)
    sleeper = world.start(vm_id, "READ", "before", "SIGSTOP")
    while "T" not in Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0]:
        assert sleeper.poll() is None, sleeper.communicate()
        time.sleep(0.05)
    # It is not dead: no other run may take its lease, and its checkpoint stays.
    rival = world.backup(vm_id)
    assert isinstance(rival.error, RepositoryLocked)
    assert world.model.checkpoints.all(vm_id, hidden=True)
    # Meanwhile the host has given up on its shells.
    world.server.service.shells.remove_all()
    sleeper.send_signal(signal.SIGCONT)
    said, complained = sleeper.communicate()
    assert sleeper.returncode in (ExitCode.DONE, ExitCode.VM_FAILED, ExitCode.DEGRADED), complained
    assert json.loads(said)["left"] == []
    world.repository.refresh()
    world.assert_clean(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)


def test_every_point_made_while_being_killed_is_equal(wired: tuple[WireWorld, UUID]) -> None:
    world, vm_id = wired
    assert world.assert_points_equal(vm_id) >= 1


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_three_hundred_kills(wired: tuple[WireWorld, UUID]) -> None:
    world, vm_id = wired
    seed = int(os.environ.get("HVPS_SEED", "20261122"))
    chance = random.Random(seed)
    for _ in range(300):
        at = chance.choice([(step.name, moment) for step in Step for moment in ("before", "after")])
        test_a_kill_at_any_step_loses_nothing(wired, at)
    assert world.assert_points_equal(vm_id) >= 300, f"seed {seed}"
