"""All sorts of disks, compared with their golden images: huge, empty, replaced, oddly named."""

from __future__ import annotations

import io
import random
import uuid
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.extents import Extent, normalise
from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.runner import Runner
from hvpsbridge.tasks.task import play_task
from hvpsbridge.units import KIB, MIB, TIB
from tests.tasks.world import QUICK, SECOND, SLOT, Steps, World

SIZE = 2 * MIB
ODD_PATHS = [
    "C:\\VMs\\web [1]\\data [old].vhdx",
    "C:\\VMs\\o'brien\\it's.vhdx",
    "C:\\VMs\\$env;TEMP\\$(x).vhdx",
    "C:\\VMs\\Grüße 備份\\ﬁle.vhdx",
    "\\\\files\\vms\\a share\\web.vhdx",
    "\\\\files.example.net\\vms$\\web.vhdx",
]


def reasons(result: BackupResult) -> list[Reason]:
    assert result.error is None, result.error
    return [disk.reason for disk in result.disks]


def assert_sparsely_equal(world: World, vm_id: UUID) -> int:
    """As :meth:`World.assert_points_equal` wherever either has data, for disks too large to be read whole."""
    for point in world.repository.catalog.points(vm_id):
        assert point.manifest.checkpoint_id is not None
        for disk in point.disks:
            kept = world.model.golden.at_checkpoint(point.manifest.checkpoint_id, SLOT)
            assert kept.stat().st_size == disk.size_bytes
            image = world.repository.image(point, disk)
            with kept.open("rb") as file, io.BufferedReader(image) as restored:
                there = sparse.data_extents(file.fileno(), 0, disk.size_bytes)
                for extent in normalise([*there, *image.extents()], disk.size_bytes):
                    for start in range(extent.offset, extent.end, MIB):
                        length = min(MIB, extent.end - start)
                        file.seek(start)
                        restored.seek(start)
                        same = restored.read(length) == file.read(length)
                        assert same, Extent(start, length)
    return len(world.repository.catalog.points(vm_id))


def test_a_disk_above_two_tebibytes_restores_equal_wherever_it_has_data(world: World) -> None:
    size = 3 * TIB + 512
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=size, block_bytes=32 * MIB)
    chance = random.Random(7)
    # Either side of what 32 bits of sectors can count, and at both ends.
    places = [0, 2 * TIB - 64 * KIB, 2 * TIB, 2 * TIB + 512, size - 64 * KIB - 512]
    for _ in range(3):
        for place in places:
            world.model.guests.write(vm_id, SLOT, place // 512 * 512, chance.randbytes(64 * KIB))
        result = world.good_backup(vm_id)
        places = places[1:4]
    assert result.disks[0].mode is Mode.INCREMENTAL
    assert result.disks[0].read_bytes < 64 * MIB
    assert assert_sparsely_equal(world, vm_id) == 3


def test_a_disk_that_holds_nothing_is_a_disk_and_stays_one_when_it_fills(world: World) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, block_bytes=MIB)
    first = world.good_backup(vm_id)
    assert (first.disks[0].mode, first.disks[0].new_chunks) == (Mode.FULL, 0)
    assert reasons(world.good_backup(vm_id)) == [Reason.EMPTY_ANSWER]
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    world.model.guests.unmap(vm_id, SLOT, 0, SIZE)
    world.good_backup(vm_id)
    last = world.repository.catalog.points(vm_id)[-1]
    assert not list(world.repository.image(last, last.disks[0]).extents())
    assert world.assert_points_equal(vm_id) == 4


def test_an_empty_drive_and_what_is_put_into_it_later(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.add_empty_drive(vm_id, SECOND)
    assert len(world.good_backup(vm_id).disks) == 1
    world.churn(vm_id)
    world.model.setup.remove_disk(vm_id, SECOND)
    world.model.setup.add_disk(vm_id, SECOND, size_bytes=SIZE, block_bytes=MIB)
    world.churn(vm_id, SECOND)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED, Reason.NEW_DISK]
    assert world.assert_points_equal(vm_id) == 2


@pytest.mark.parametrize("same_id", [True, False], ids=["same-id", "other-id"])
def test_an_older_copy_put_at_the_same_path_is_never_taken_for_the_disk(
    world: World, tmp_path: Path, same_id: bool
) -> None:
    """As an in-place restore does it: path, size and, with a copy, VirtualDiskId are those of the disk."""
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    older = tmp_path / "older.raw"
    with world.repository.image(point, point.disks[0]) as image:
        older.write_bytes(image.read(SIZE))
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.model.vms.set_state(vm_id, "stop")
    disk_id = point.disks[0].disk_id if same_id else uuid.uuid4()
    world.model.setup.swap_disk(vm_id, SLOT, older, disk_id=disk_id)
    world.model.vms.set_state(vm_id, "start")
    world.churn(vm_id)
    result = world.good_backup(vm_id)
    assert reasons(result) == [Reason.TRACKING_UNUSABLE if same_id else Reason.DISK_REPLACED]
    assert result.disks[0].mode is (Mode.COMPARE if same_id else Mode.FULL)
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    assert world.assert_points_equal(vm_id) == 4


@pytest.mark.parametrize("path", ODD_PATHS)
def test_paths_are_data(world: World, path: str) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, path=path, block_bytes=MIB)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="mine", kind=SnapshotType.Standard))
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    assert world.assert_points_equal(vm_id) == 3


def test_vms_of_one_name_are_backed_up_by_id_and_kept_apart(world: World) -> None:
    vms = [world.vm("twin", disks=(SIZE,), folder=f"C:\\VMs\\{number}") for number in range(2)]
    target = HostTarget("HV01", world.host)  # type: ignore[arg-type]
    for _ in range(2):
        play = PlayRun(
            "twins", (target,), world.repository, VmSelection(("tw*",)), (play_task("backup", QUICK),)
        )
        result = Runner(uuid.uuid4(), Steps(), Cancellation()).run([play])
        assert [task.error for task in result.tasks] == [None, None]
        for vm_id in vms:
            world.churn(vm_id)
    for vm_id in vms:
        modes = [point.disks[0].mode for point in world.repository.catalog.points(vm_id)]
        assert modes == ["full", "incremental"]
        assert world.assert_points_equal(vm_id) == 2


def test_users_checkpoints_before_and_after_a_backup_are_applied_and_merged(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    before = world.model.jobs.wait(world.model.checkpoints.create(vm_id, kind=SnapshotType.Standard))
    world.churn(vm_id)
    world.good_backup(vm_id)
    after = world.model.jobs.wait(world.model.checkpoints.create(vm_id, kind=SnapshotType.Standard))
    world.churn(vm_id)
    world.good_backup(vm_id)
    for made in (after, before):
        world.model.vms.set_state(vm_id, "power_off")
        world.model.jobs.wait(world.model.checkpoints.apply(UUID(made.results["checkpoint"])))
        world.model.vms.set_state(vm_id, "start")
        world.churn(vm_id)
        world.good_backup(vm_id)
    for made in (before, after):
        world.model.jobs.wait(world.model.checkpoints.remove(UUID(made.results["checkpoint"])))
        world.churn(vm_id)
        world.good_backup(vm_id)
    assert world.assert_points_equal(vm_id) == 6
