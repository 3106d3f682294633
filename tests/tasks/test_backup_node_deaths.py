"""A cluster node dies during a backup over the wire: the new owner is found and cleaned up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.policy import BackupOptions
from hvpsbridge.tasks.runner import Runner
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.task import play_task
from hvpsbridge.units import MIB
from tests.connections import basic
from tests.tasks.world import IMPATIENT, QUICK, Died, Steps, World, die

NODES = ("HV01", "HV02")


@dataclass
class Cluster:
    """Two nodes, each served on its own port, and a VM that either may have."""

    world: World
    targets: tuple[HostTarget, ...]
    vm_id: UUID

    def run(self, observer: Steps | None = None, policy: BackupOptions = QUICK) -> BackupResult:
        play = PlayRun(
            "cluster",
            self.targets,
            self.world.repository,
            VmSelection(("web",)),
            (play_task("backup", policy),),
        )
        (result,) = Runner(uuid4(), observer or Steps(), Cancellation()).run([play]).tasks
        assert isinstance(result, BackupResult)
        return result


@pytest.fixture
def cluster(world: World) -> Iterator[Cluster]:
    world.model.nodes.get("HV01").cluster = "one"
    world.model.setup.add_node("HV02", cluster="one")
    vm_id = world.vm(disks=(2 * MIB,), clustered=True)
    with ExitStack() as stack:
        served = [stack.enter_context(SimulatedHost(world.model, node=name)) for name in NODES]
        targets = tuple(
            HostTarget(name, lambda name=name, url=host.url: connect(name, url))  # type: ignore[misc]
            for name, host in zip(NODES, served, strict=True)
        )
        yield Cluster(world, targets, vm_id)


def connect(name: str, url: str) -> HyperVHost:
    return HyperVHost.connect(basic(url, name))


@pytest.mark.parametrize(
    "step",
    [Step.MAKE_CHECKPOINT, Step.READ, Step.COMMIT, Step.CONVERT, Step.MERGE],
    ids=lambda step: step.name.lower(),
)
def test_the_heir_of_a_dead_node_is_found_cleaned_and_backed_up(cluster: Cluster, step: Step) -> None:
    world, vm_id = cluster.world, cluster.vm_id
    first = cluster.run()
    assert first.error is None, first.error
    world.churn(vm_id)
    once = iter([True])

    def die() -> None:
        if next(once, False):
            world.model.incidents.kill_host("HV01")

    result = cluster.run(Steps((step.name, "before"), die), IMPATIENT)
    assert result.error is None, result.error
    assert not result.leftovers
    world.assert_clean(vm_id)
    assert any("shells of earlier runs may stay open on HV01" in warning for warning in result.warnings)
    world.churn(vm_id)
    last = cluster.run()
    assert last.error is None, last.error
    assert last.vm.host == "HV02"
    # The host that is dead is a problem of the run, not of this VM any more.
    assert all("its newest point was made on HV01" in warning for warning in last.warnings)
    assert last.disks[0].mode is Mode.INCREMENTAL
    world.assert_clean(vm_id)
    world.assert_points_equal(vm_id)


def test_the_leftovers_of_a_killed_run_are_cleaned_where_the_vm_is_now(cluster: Cluster) -> None:
    world, vm_id = cluster.world, cluster.vm_id
    assert cluster.run().error is None
    world.churn(vm_id)

    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("CONFIGURATION", "before"), die))
    assert len(world.model.checkpoints.all(vm_id, hidden=True)) == 1
    world.model.incidents.kill_host("HV01")
    world.churn(vm_id)
    result = cluster.run()
    assert result.error is None, result.error
    assert result.vm.host == "HV02"
    world.assert_clean(vm_id)
    world.assert_points_equal(vm_id)
