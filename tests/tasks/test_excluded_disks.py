"""Excluded disks: the rest of the VM is backed up, and the point names what it lacks."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode, NotEligible
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.report.views import condition_lines
from hvpsbridge.sim.model.state import ControllerType, Slot, SnapshotType
from hvpsbridge.tasks.backup.results import BackupResult, BackupSection
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.planning.eligibility import Severity
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.select import matching_pattern
from hvpsbridge.tasks.policy import DiskSelection
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.units import MIB
from tests.tasks import builders as make
from tests.tasks.world import SECOND, SLOT, World

SIZE = 2 * MIB
THIRD = Slot(ControllerType.SCSI, 0, 2)
OUT = ("scsi 0:1",)


def by_slot(result: BackupResult) -> dict[str, tuple[Mode, Reason]]:
    assert result.error is None, result.error
    return {disk.slot: (disk.mode, disk.reason) for disk in result.disks}


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("scsi 0:0", True),
        ("SCSI 0:*", True),
        ("scsi 0:1", False),
        ("C:\\VMs\\web\\web.vhdx", True),
        ("c:\\vms\\WEB\\*", True),
        ("*\\web.vhdx", True),
        ("*web_1.avhdx", True),
        ("*\\db.vhdx", False),
        ("web.vhdx", False),
    ],
)
def test_a_pattern_fits_where_a_disk_hangs_or_any_file_of_its_chain(pattern: str, fits: bool) -> None:
    child = make.drive(path="C:\\VMs\\web\\web_1.avhdx", chain=("C:\\VMs\\web\\web_1.avhdx", *make.CHAIN))
    assert matching_pattern((pattern,), "scsi 0:0", child) == (pattern if fits else None)


@pytest.mark.parametrize("odd", ["pass_through", "shared", "vhdx"])
def test_a_vm_is_backed_up_without_the_disk_that_is_left_out(world: World, odd: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    if odd == "pass_through":
        world.model.setup.add_pass_through(vm_id, SECOND, 3)
    else:
        world.model.setup.add_disk(vm_id, SECOND, size_bytes=SIZE, shared=odd == "shared", block_bytes=MIB)
        world.churn(vm_id, SECOND)
    if odd != "vhdx":
        assert isinstance(world.backup(vm_id).error, NotEligible)
    for expected in (Mode.FULL, Mode.INCREMENTAL, Mode.INCREMENTAL):
        result = world.good_backup(vm_id, disks=DiskSelection(exclude=OUT))
        assert {slot: mode for slot, (mode, _) in by_slot(result).items()} == {"scsi 0:0": expected}
        assert result.exit_code is ExitCode.DONE
        world.churn(vm_id)
        if odd == "vhdx":
            world.churn(vm_id, SECOND)
    assert world.assert_points_equal(vm_id) == 3
    for point in world.repository.catalog.points(vm_id):
        (left,) = point.manifest.excluded
        assert (left.slot, left.pattern) == ("scsi 0:1", "scsi 0:1")
        assert (left.path is None) == (odd == "pass_through")
        assert left.size_bytes == (0 if odd == "pass_through" else SIZE)


def test_the_plan_says_what_is_left_out_and_by_which_pattern(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.add_pass_through(vm_id, SECOND, 3)
    result = world.backup(vm_id, check=True, disks=DiskSelection(exclude=("ide *", "scsi *:1")))
    assert result.error is None
    (finding,) = result.findings
    assert finding.severity is Severity.NOTE
    assert finding.text == "disk scsi 0:1 (physical disk) is excluded by 'scsi *:1'"
    run = RunResult(uuid4(), result.started, result.seconds, (result,))
    report = run_report(run, name="x", check=True)
    assert any("excluded by 'scsi *:1'" in line for line in condition_lines(report))
    backup = report.tasks[0].section
    assert isinstance(backup, BackupSection)
    assert [disk.slot for disk in backup.excluded] == ["scsi 0:1"]
    assert [disk.slot for disk in backup.plan] == ["scsi 0:0"]


def test_a_vm_of_which_every_disk_is_left_out_is_refused(world: World) -> None:
    result = world.backup(world.vm(disks=(SIZE,)), disks=DiskSelection(exclude=("scsi *",)))
    assert isinstance(result.error, NotEligible)
    assert "all of its disks are excluded" in result.error.reason


def test_a_disk_left_out_for_a_while_is_compared_and_a_new_one_read_whole(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id)
    for _ in range(2):
        world.churn(vm_id)
        world.churn(vm_id, SECOND)
        assert by_slot(world.good_backup(vm_id, disks=DiskSelection(exclude=OUT))) == {
            "scsi 0:0": (Mode.INCREMENTAL, Reason.TRACKED)
        }
    world.churn(vm_id)
    world.churn(vm_id, SECOND)
    again = world.good_backup(vm_id)
    assert by_slot(again) == {
        "scsi 0:0": (Mode.INCREMENTAL, Reason.TRACKED),
        "scsi 0:1": (Mode.COMPARE, Reason.WAS_LEFT_OUT),
    }
    assert again.exit_code is ExitCode.DONE
    world.churn(vm_id)
    world.churn(vm_id, SECOND)
    assert {mode for mode, _ in by_slot(world.good_backup(vm_id)).values()} == {Mode.INCREMENTAL}
    world.model.setup.add_disk(vm_id, THIRD, size_bytes=SIZE, block_bytes=MIB)
    for slot in (SLOT, SECOND, THIRD):
        world.churn(vm_id, slot)
    world.good_backup(vm_id, disks=DiskSelection(exclude=("scsi 0:2",)))
    for slot in (SLOT, SECOND, THIRD):
        world.churn(vm_id, slot)
    assert by_slot(world.good_backup(vm_id))["scsi 0:2"] == (Mode.FULL, Reason.NEW_DISK)
    world.assert_points_equal(vm_id)


def test_a_pattern_holds_while_a_users_checkpoint_has_the_disk_on_a_child(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    path = world.model.disks.layer(world._drive(vm_id, SECOND)).path
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="mine", kind=SnapshotType.Standard))
    world.churn(vm_id, SECOND)
    result = world.good_backup(vm_id, disks=DiskSelection(exclude=(path.upper(),)))
    assert list(by_slot(result)) == ["scsi 0:0"]
    world.assert_points_equal(vm_id)


def test_a_clone_that_is_left_out_still_makes_its_twin_a_compare(world: World) -> None:
    vm_id = world.vm(disks=())
    shared = uuid4()
    for slot in (SLOT, SECOND):
        world.model.setup.add_disk(vm_id, slot, size_bytes=SIZE, disk_id=shared, block_bytes=MIB)
        world.churn(vm_id, slot)
    world.good_backup(vm_id, disks=DiskSelection(exclude=OUT))
    world.churn(vm_id)
    result = world.good_backup(vm_id, disks=DiskSelection(exclude=OUT))
    assert by_slot(result) == {"scsi 0:0": (Mode.COMPARE, Reason.DUPLICATE_ID)}
    world.assert_points_equal(vm_id)


def test_a_restore_names_the_disks_that_its_point_does_not_have(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.good_backup(vm_id, disks=DiskSelection(exclude=OUT))
    result = restore_vm(
        world.context(VmRef("HV01", vm_id, "web")), RestoreOptions(to=f"raw:{world.folder}/restored")
    )
    assert result.error is None
    assert [disk.slot for disk in result.disks] == ["scsi 0:0"]
    assert [disk.slot for disk in result.excluded] == ["scsi 0:1"]
    assert result.exit_code is ExitCode.DONE
    run = RunResult(uuid4(), result.started, result.seconds, (result,))
    (line,) = condition_lines(run_report(run, name="x", check=False))
    assert "disk scsi 0:1" in line
    assert "was left out of this point" in line


def test_points_of_vms_without_such_patterns_are_written_as_before(world: World) -> None:
    vm_id: UUID = world.vm(disks=(SIZE,))
    world.good_backup(vm_id, disks=DiskSelection(exclude=("scsi 3:*",)))
    assert b"excluded" not in world.repository.catalog.points(vm_id)[0].manifest.encode()
