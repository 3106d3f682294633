"""The host fails at every step of a backup: its shells are killed, or it loses power.

And the network is cut at every message: in ``test_backup_stops.py`` at every operation, here at every
WSMan request and every reply to one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, HostError
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.wire import WireWorld
from tests.tasks.world import IMPATIENT, Steps, World

SMALL = 2 * MIB
# What a cut may end a run with; anything else would be a defect.
ENDINGS = {
    ExitCode.DONE,
    ExitCode.VM_FAILED,
    ExitCode.DEGRADED,
    ExitCode.HOST_UNREACHABLE,
    ExitCode.HOST_NOT_CLEAN,
}


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WireWorld, UUID]]:
    """A world over the wire whose VM has been backed up once."""
    world = WireWorld(tmp_path_factory.mktemp("losses"))
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    yield world, vm_id
    world.close()


def goes_on(world: World, vm_id: UUID, where: object = "") -> None:
    """The next increment is one, and right, and so is every point since."""
    world.churn(vm_id)
    after = world.backup(vm_id)
    assert after.error is None, (where, after.error)
    assert not after.leftovers, (where, after.leftovers)
    world.assert_clean(vm_id)
    for point in world.repository.catalog.points(vm_id)[-3:]:
        world.assert_point_equal(point)


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
def test_the_shells_of_the_host_die_at_any_step_and_the_run_goes_on_or_undoes(
    wired: tuple[WireWorld, UUID], step: Step
) -> None:
    world, vm_id = wired
    world.churn(vm_id)
    shells = world.server.service.shells

    def kill() -> None:
        for shell in shells.all():
            shells.kill(shell)

    result = world.backup(vm_id, observer=Steps((step.name, "before"), kill))
    assert result.exit_code in ENDINGS, result.error
    assert not result.leftovers, result.leftovers
    world.assert_clean(vm_id)
    goes_on(world, vm_id)


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
def test_the_host_loses_power_at_any_step_and_the_next_increment_is_right(world: World, step: Step) -> None:
    """Its VM is off then, its jobs and handles are gone, and what only memory knew of tracking is lost."""
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    once = iter([True])

    def crash() -> None:
        if next(once, False):
            world.model.incidents.crash_host("HV01")

    result = world.backup(vm_id, policy=IMPATIENT, observer=Steps((step.name, "before"), crash))
    assert result.exit_code in ENDINGS, result.error
    assert result.error is None or isinstance(result.error, HostError)
    if result.error is not None and not result.leftovers:
        world.assert_clean(vm_id)
    world.model.vms.set_state(vm_id, "start")
    goes_on(world, vm_id)
    world.churn(vm_id)
    assert world.good_backup(vm_id).disks[0].mode is Mode.INCREMENTAL
    world.assert_points_equal(vm_id)


def requests_of_an_increment(world: WireWorld, vm_id: UUID) -> int:
    """How many WSMan requests a run sends; the exact count depends on how replies fall."""
    world.churn(vm_id)
    before = sum(world.server.counters.requests.values())
    assert world.backup(vm_id).error is None
    return sum(world.server.counters.requests.values()) - before


def cut(world: WireWorld, vm_id: UUID, fault: str, position: int) -> None:
    """One run that loses the message at a position, and the one after it."""
    name = fault.partition(":")[0]
    world.churn(vm_id)
    world.server.faults.arm_text(f"{fault},after={position}", 1)
    result = world.backup(vm_id)
    world.server.faults.arm(name, 0)
    where = f"{fault} after {position}"
    assert result.exit_code in ENDINGS, (where, result.error)
    assert not result.leftovers, (where, result.leftovers)
    goes_on(world, vm_id, where)


CUTS = ("request_lost:action=any", "reply_lost:action=any", "reply_cut:action=any,bytes=200")
SHARE = 2
# The first messages open the session, which is the runner's to report.
FIRST = 6


@pytest.mark.parametrize("fault", CUTS, ids=lambda fault: fault.partition(":")[0])
@pytest.mark.parametrize("share", range(SHARE))
def test_a_message_lost_anywhere_costs_at_most_that_run(
    wired: tuple[WireWorld, UUID], fault: str, share: int
) -> None:
    world, vm_id = wired
    seed = int(os.environ.get("HVPS_SEED", "20261122"))
    count = requests_of_an_increment(world, vm_id)
    # One in each half of the run; the soak strikes them all.
    position = random.Random(f"{seed}|{fault}|{share}").randrange(
        max(FIRST, count * share // SHARE), count * (share + 1) // SHARE
    )
    cut(world, vm_id, fault, position)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("fault", CUTS, ids=lambda fault: fault.partition(":")[0])
def test_every_message_of_a_run_is_lost_once(wired: tuple[WireWorld, UUID], fault: str) -> None:
    world, vm_id = wired
    for position in range(FIRST, requests_of_an_increment(world, vm_id) + 3):
        cut(world, vm_id, fault, position)
