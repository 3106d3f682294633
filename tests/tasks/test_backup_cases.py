"""All sorts of VMs and disks: states, users' checkpoints, formats, names."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode, Gated, NotEligible
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.sim.model.state import (
    CheckpointType,
    ControllerType,
    ReplicationMode,
    Slot,
    SnapshotType,
    VhdFormat,
    VMState,
)
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.planning.eligibility import Severity
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.vm_status import IGNORED_STATUS, NOTED_STATUS
from hvpsbridge.units import GIB, KIB, MIB, TIB
from tests.tasks.world import SECOND, SLOT, Died, Steps, World, die

SIZE = 2 * MIB
THIRD = Slot(ControllerType.SCSI, 0, 2)


def reasons(result: BackupResult) -> list[Reason]:
    assert result.error is None, result.error
    return [disk.reason for disk in result.disks]


# -- states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["stop", "save", "power_off"])
def test_a_vm_that_does_not_run_is_backed_up_and_its_silence_is_compared(world: World, action: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.model.vms.set_state(vm_id, action)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    world.model.set_knob("over_report", 0.0)
    assert reasons(world.good_backup(vm_id)) == [Reason.EMPTY_ANSWER]
    world.model.vms.set_state(vm_id, "start")
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    assert world.assert_points_equal(vm_id) == 4


@pytest.mark.parametrize("state", [VMState.Paused, VMState.Starting, VMState.Stopping, VMState.Saving])
def test_a_passing_state_is_waited_for_and_then_skipped(world: World, state: VMState) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.change_vm(vm_id, state=state)
    result = world.backup(vm_id)
    assert isinstance(result.error, Gated)
    assert result.exit_code is ExitCode.GATED
    world.model.setup.change_vm(vm_id, state=VMState.Running)
    world.good_backup(vm_id)


@pytest.mark.parametrize(
    "settings",
    [
        {"replication_mode": ReplicationMode.Replica},
        {"shielded": True},
        {"merge_enabled": False},
        {"commit_fork_events": 1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_vm_that_cannot_be_backed_up_is_refused_before_anything_is_made(
    world: World, settings: dict[str, object]
) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.change_vm(vm_id, **settings)
    result = world.backup(vm_id)
    assert isinstance(result.error, NotEligible)
    (finding,) = result.findings
    assert finding.remedy in str(result.error)
    assert not list((world.store / "ledger").rglob("*.*"))
    world.assert_clean(vm_id, reference_points=0)
    assert isinstance(world.backup(vm_id, check=True).error, NotEligible)


@pytest.mark.parametrize("setting", [CheckpointType.Disabled, CheckpointType.Unlisted])
def test_a_vm_with_checkpoints_disabled_is_backed_up_with_a_note(
    world: World, setting: CheckpointType
) -> None:
    vm_id = world.vm(disks=(SIZE,), checkpoint_type=setting)
    result = world.good_backup(vm_id)
    (finding,) = result.findings
    assert finding.severity is Severity.NOTE
    assert "CheckpointType" in str(finding)


def test_a_host_that_refuses_it_names_the_setting_and_the_remedy(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), checkpoint_type=CheckpointType.Disabled)
    world.model.set_knob("disabled_refuses_backups", True)
    result = world.backup(vm_id)
    assert isinstance(result.error, NotEligible)
    assert "its CheckpointType is disabled" in str(result.error)
    assert "Set-VM -CheckpointType Production" in str(result.error)
    assert result.exit_code is ExitCode.VM_FAILED
    world.assert_clean(vm_id, reference_points=0)


@pytest.mark.parametrize("state", [VMState.FastSaved, VMState.Hibernated])
def test_a_vm_that_holds_its_memory_elsewhere_is_backed_up_as_a_saved_one(
    world: World, state: VMState
) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.change_vm(vm_id, state=state)
    assert world.good_backup(vm_id).consistency == "crash"
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize("status", sorted([*NOTED_STATUS, *IGNORED_STATUS, 33000]))
def test_no_status_that_passes_by_costs_a_night(world: World, status: int) -> None:
    vm_id = world.vm(disks=(SIZE,))
    kind = "second_status" if status > 16 else "primary_status"
    world.model.setup.change_vm(vm_id, **{kind: status})
    world.good_backup(vm_id)


def test_a_start_delay_is_not_waited_for(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,), state=VMState.Off, second_status=32771)
    steps = Steps()
    assert world.good_backup(vm_id, observer=steps).findings == ()
    assert not [note for note in steps.notes if "waiting" in note]


# -- users' checkpoints -------------------------------------------------------------------------------


def user_checkpoint(world: World, vm_id: UUID) -> UUID:
    job = world.model.jobs.wait(
        world.model.checkpoints.create(vm_id, name="mine", kind=SnapshotType.Standard)
    )
    return UUID(job.results["checkpoint"])


@pytest.mark.parametrize(
    "at", ["SETTLE", "CHECK_FROZEN", "READ", "PROVE", "COMMIT", "CLOSE_READERS", "CONVERT", "MERGE"]
)
def test_a_users_checkpoint_during_a_backup_costs_nothing(world: World, at: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)

    def checkpoint() -> None:
        world.churn(vm_id)
        user_checkpoint(world, vm_id)
        world.churn(vm_id)

    result = world.backup(vm_id, observer=Steps((at, "before"), checkpoint))
    assert result.error is None, result.error
    world.churn(vm_id)
    world.good_backup(vm_id)
    for point in world.model.checkpoints.all(vm_id, hidden=True):
        world.model.jobs.wait(world.model.checkpoints.remove(point.checkpoint_id))
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def test_a_checkpoint_applied_between_backups_is_what_the_next_point_holds(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    mine = user_checkpoint(world, vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.model.vms.set_state(vm_id, "power_off")
    world.model.jobs.wait(world.model.checkpoints.apply(mine))
    assert reasons(world.good_backup(vm_id)) == [Reason.CHECKPOINTS_CHANGED]
    world.assert_points_equal(vm_id)


# -- disks --------------------------------------------------------------------------------------------


def test_disks_come_go_grow_and_are_swapped(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id)
    world.model.setup.add_disk(vm_id, THIRD, size_bytes=SIZE, block_bytes=MIB)
    for slot in (SLOT, SECOND, THIRD):
        world.churn(vm_id, slot)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED, Reason.TRACKED, Reason.NEW_DISK]
    world.model.setup.resize_disk(vm_id, SECOND, SIZE + 64 * KIB)
    for slot in (SLOT, SECOND, THIRD):
        world.churn(vm_id, slot)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED, Reason.SIZE_CHANGED, Reason.TRACKED]
    path = world.model.disks.layer(world._drive(vm_id, THIRD)).path
    world.model.setup.remove_disk(vm_id, THIRD)
    world.churn(vm_id)
    world.churn(vm_id, SECOND)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED, Reason.TRACKED]
    world.model.setup.add_disk(vm_id, THIRD, size_bytes=SIZE, path=path, block_bytes=MIB)
    for slot in (SLOT, SECOND, THIRD):
        world.churn(vm_id, slot)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED, Reason.TRACKED, Reason.DISK_REPLACED]
    assert world.assert_points_equal(vm_id) == 5


def test_a_disk_moved_to_another_slot_is_compared_with_what_it_was(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    vm = world.model.vms.get(vm_id)
    drive = vm.drives.pop(str(SLOT))
    vm.drives[str(THIRD)] = type(drive)(THIRD, drive.layer)
    world.model.golden.add(vm_id, THIRD, SIZE, world.model.golden.live(vm_id, SLOT))
    world.churn(vm_id, THIRD)
    result = world.good_backup(vm_id)
    assert reasons(result) == [Reason.DISK_MOVED]
    assert result.disks[0].read_bytes < SIZE
    world.assert_points_equal(vm_id)


def test_clones_of_a_template_share_an_id_and_are_compared(world: World) -> None:
    vm_id = world.vm(disks=())
    shared = uuid4()
    for slot in (SLOT, SECOND):
        world.model.setup.add_disk(vm_id, slot, size_bytes=SIZE, disk_id=shared, block_bytes=MIB)
        world.churn(vm_id, slot)
    world.good_backup(vm_id)
    world.churn(vm_id, SLOT)
    assert reasons(world.good_backup(vm_id)) == [Reason.DUPLICATE_ID] * 2
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize(
    ("size", "sector"),
    [
        (SIZE, 4096),
        (SIZE + 512, 512),
        (64 * KIB * 3 + 1536, 512),
        (512, 512),
        (4096, 4096),
        (5 * MIB + 4096, 4096),
    ],
)
def test_sizes_and_sectors_of_all_sorts(world: World, size: int, sector: int) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=size, logical_sector_bytes=sector, block_bytes=MIB)
    for _ in range(3):
        world.model.guests.write(vm_id, SLOT, size - sector, world.chance.randbytes(sector))
        world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(sector))
        world.good_backup(vm_id)
    assert world.assert_points_equal(vm_id) == 3


def test_a_sparse_disk_above_two_tebibytes_costs_what_it_holds(world: World) -> None:
    size = 3 * TIB + 512
    vm_id = world.vm(disks=())
    world.model.golden.enabled = False
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=size, block_bytes=32 * MIB)
    places = [0, 2 * TIB - 64 * KIB, 2 * TIB, size - 64 * KIB - 512]
    for place in places:
        world.model.guests.write(vm_id, SLOT, place // 512 * 512, world.chance.randbytes(64 * KIB))
    full = world.good_backup(vm_id)
    assert full.disks[0].read_bytes <= len(places) * 64 * MIB
    world.model.guests.write(vm_id, SLOT, 2 * TIB + 512, b"\xaa" * 4096)
    world.model.set_knob("over_report", 0.0)
    increment = world.good_backup(vm_id)
    assert increment.disks[0].mode is Mode.INCREMENTAL
    point = world.repository.catalog.points(vm_id)[-1]
    image = world.repository.image(point, point.disks[0])
    for place in [*places, 2 * TIB + 512]:
        start = place // 512 * 512
        image.seek(start)
        assert image.read(4096) == world.model.guests.read(vm_id, SLOT, start, 4096)
    assert sum(extent.length for extent in image.extents()) < 1 * GIB


def test_a_vhd_is_compared_each_time(world: World) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, format=VhdFormat.VHD)
    world.churn(vm_id)
    for reason in (Reason.FIRST_BACKUP, Reason.NOT_TRACKED):
        result = world.backup(vm_id)
        assert (result.error, result.warnings, reasons(result)) == (None, (), [reason])
        assert result.exit_code is ExitCode.DONE
        # Without an id of any disk a reference point is of no use, and nothing would show that it is ours.
        world.assert_clean(vm_id, reference_points=0)
        world.churn(vm_id)
    assert result.disks[0].mode is Mode.COMPARE
    world.assert_points_equal(vm_id)


def test_a_kill_after_the_point_of_a_vhd_leaves_a_checkpoint_that_is_removed(world: World) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, format=VhdFormat.VHD)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("CONVERT", "before"), die))
    assert world.model.checkpoints.all(vm_id, hidden=True)
    assert world.backup(vm_id).exit_code is ExitCode.DONE
    world.assert_clean(vm_id, reference_points=0)


@pytest.mark.parametrize("odd", ["pass_through", "shared"])
def test_disks_that_no_checkpoint_holds_refuse_the_vm(world: World, odd: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    if odd == "pass_through":
        world.model.setup.add_pass_through(vm_id, SECOND, 3)
    else:
        world.model.setup.add_disk(vm_id, SECOND, size_bytes=SIZE, shared=True)
    result = world.backup(vm_id)
    assert isinstance(result.error, NotEligible)
    assert "scsi 0:1" in result.error.reason


def test_an_empty_drive_takes_no_part(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.add_empty_drive(vm_id, SECOND)
    assert len(world.good_backup(vm_id).disks) == 1


@pytest.mark.parametrize(
    "name", ["web [1]", "o'brien", '"quoted"', "$env:TEMP", "Grüße 備份", "back`tick", "{{ vm }}", "%n;&|"]
)
def test_names_are_data(world: World, name: str) -> None:
    vm_id = world.vm(name, disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)
    assert world.repository.catalog.find_point(f"{name}@latest").vm_name == name
    world.assert_points_equal(vm_id)


def test_a_disk_on_a_share_is_a_disk(world: World) -> None:
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, path="\\\\files\\vms\\web.vhdx", block_bytes=MIB)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    world.assert_points_equal(vm_id)


# -- others at work -----------------------------------------------------------------------------------


def test_two_repositories_back_up_one_vm_side_by_side(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    other_folder = world.folder / "other"
    other_folder.mkdir()
    with create_on_store(LocalStore(other_folder), ChunkGrid(64 * KIB)) as other:
        for _ in range(3):
            world.churn(vm_id)
            assert world.backup(vm_id).error is None
            world.churn(vm_id)
            assert world.backup(vm_id, repository=other).error is None
        world.churn(vm_id)
        assert reasons(world.backup(vm_id)) == [Reason.TRACKED]
        assert reasons(world.backup(vm_id, repository=other)) == [Reason.TRACKED]
        assert len(world.model.reference_points.all(vm_id)) == 2
        world.assert_points_equal(vm_id)
        world.assert_points_equal(vm_id, other)


def test_a_second_repository_waits_while_the_first_is_at_work(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    other_folder = world.folder / "other"
    other_folder.mkdir()
    seen: list[BackupResult] = []
    with create_on_store(LocalStore(other_folder), ChunkGrid(64 * KIB)) as other:
        busy = Steps(("READ", "before"), lambda: seen.append(world.backup(vm_id, repository=other)))
        world.good_backup(vm_id, observer=busy)
    assert isinstance(seen[0].error, Gated)
    assert "another" in seen[0].error.reason or "hvps repository" in seen[0].error.reason


def test_foreign_reference_points_are_never_touched(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="Other Product"))
    foreign = world.model.jobs.wait(
        world.model.checkpoints.convert(UUID(made.results["checkpoint"]))
    ).results["reference_point"]
    for _ in range(3):
        world.churn(vm_id)
        result = world.backup(vm_id, wait=20.0)
        assert result.error is None, result.error
        assert not result.leftovers
    there = [point.instance_id for point in world.model.reference_points.all(vm_id)]
    assert foreign in there
    assert len(there) == 2
    world.assert_points_equal(vm_id)


def test_our_reference_point_destroyed_by_others_costs_one_compare(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    (ours,) = world.model.reference_points.all(vm_id)
    world.model.jobs.wait(world.model.reference_points.remove(ours.instance_id))
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.REFERENCE_POINT_GONE]
    world.churn(vm_id)
    assert reasons(world.good_backup(vm_id)) == [Reason.TRACKED]
    world.assert_points_equal(vm_id)
