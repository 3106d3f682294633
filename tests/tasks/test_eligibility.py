"""Each fact that matters to a backup is one line with one remedy."""

from __future__ import annotations

from uuid import uuid4

import pytest

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    CheckpointPolicy,
    DiskFormat,
    DiskInfo,
    ReplicationMode,
    VmInfo,
    VmState,
)
from hvpsbridge.sim.model.enums import Operational
from hvpsbridge.tasks.planning.eligibility import Finding, Severity, examine, included_disks, refusals, waits
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.vm_status import BUSY_STATUS, IGNORED_STATUS, NOTED_STATUS
from tests.tasks import builders as make

PASSING = (
    VmState.PAUSED,
    VmState.PAUSING,
    VmState.RESUMING,
    VmState.STARTING,
    VmState.STOPPING,
    VmState.SAVING,
    VmState.RESETTING,
    VmState.SERVICING,
)
OURS = str(Mark(make.REPOSITORY_ID, make.RUN_ID, make.NOON))
THEIRS = str(Mark(uuid4(), make.RUN_ID, make.NOON))


def found(
    vm: VmInfo | None = None,
    disks: tuple[DiskInfo, ...] | None = None,
    checkpoints: tuple[CheckpointInfo, ...] | None = (),
) -> tuple[Finding, ...]:
    return examine(
        vm or make.vm(), (make.drive(),) if disks is None else disks, checkpoints, make.REPOSITORY_ID
    )


def test_an_ordinary_vm_has_no_findings() -> None:
    assert found() == ()
    assert found(make.vm(state=VmState.OFF)) == ()
    assert found(make.vm(state=VmState.SAVED)) == ()
    assert found(make.vm(replication_mode=ReplicationMode.PRIMARY)) == ()


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (found(make.vm(replication_mode=ReplicationMode.REPLICA)), "target of a replication"),
        (found(make.vm(settings_error="no access")), "settings cannot be read: no access"),
        (found(make.vm(replication_mode=ReplicationMode.EXTENDED_REPLICA)), "target of a replication"),
        (found(make.vm(shielded=True)), "shielded"),
        (found(make.vm(merge_enabled=False)), "merging"),
        (found(make.vm(commit_fork_events=2)), "event 3216"),
        (found(make.vm(state=VmState.CRITICAL)), "critical"),
        (found(disks=()), "no virtual disk"),
        (found(disks=(make.drive(pass_through=True, path=None),)), "physical disk"),
        (found(disks=(make.drive(shared=True),)), "shared"),
        (found(disks=(make.drive(format=DiskFormat.VHDSET),)), "shared"),
        (found(disks=(make.drive(error="0xC03A0002"),)), "cannot be read"),
        (found(disks=(make.drive(path="C:\\web_1.AVHDX"),)), "but the VM has no checkpoint"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_refuses_a_backup_says_why_and_what_to_do(findings: tuple[Finding, ...], text: str) -> None:
    refused = refusals(findings)
    assert any(text in finding.text for finding in refused), findings
    assert all(finding.remedy for finding in refused)


@pytest.mark.parametrize(
    "findings",
    [
        *(found(make.vm(state=state)) for state in PASSING),
        *(found(make.vm(operational_status=(2, status))) for status in BUSY_STATUS),
        found(make.vm(operational_status=(11,))),
        found(make.vm(operational_status=(2, 32772)), (make.drive(path="C:\\web_1.avhdx"),)),
        found(checkpoints=(make.checkpoint(name="Other Product Backup"),)),
        found(checkpoints=(make.checkpoint(name=THEIRS),)),
    ],
)
def test_what_passes_is_waited_for(findings: tuple[Finding, ...]) -> None:
    assert len(waits(findings)) == 1
    assert refusals(findings) == ()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        *(({"operational_status": (2, status)}, text) for status, text in NOTED_STATUS.items()),
        ({"operational_status": (3,)}, "cannot reach the storage of its configuration"),
        ({"operational_status": (2, 60000)}, "does not know its operational status 60000"),
        ({"operational_status": (0,)}, "does not know its operational status 0"),
        ({"state": VmState.OTHER}, "does not know its state"),
        ({"checkpoint_policy": CheckpointPolicy.DISABLED}, "checkpoints are disabled"),
        ({"checkpoint_policy": CheckpointPolicy.UNKNOWN}, "does not know its CheckpointType"),
    ],
)
def test_what_may_or_may_not_prevent_a_backup_is_noted(change: dict[str, object], text: str) -> None:
    (finding,) = found(make.vm(**change))
    assert finding.severity is Severity.NOTE
    assert text in finding.text
    assert finding.remedy


def test_every_operational_status_of_windows_is_in_one_table() -> None:
    known = [*BUSY_STATUS, *NOTED_STATUS, *IGNORED_STATUS]
    assert sorted(known) == sorted(set(known))
    assert set(known) == {int(status) for status in Operational}
    for status in IGNORED_STATUS:
        assert found(make.vm(operational_status=(2, status))) == ()


def test_our_own_leftovers_and_users_checkpoints_are_no_findings() -> None:
    user = make.checkpoint(kind=CheckpointKind.STANDARD, name="before the update")
    child = make.drive(path="C:\\web_1.avhdx", chain=("C:\\web_1.avhdx", "C:\\web.vhdx"))
    assert found(disks=(child,), checkpoints=(user, make.checkpoint(name=OURS))) == ()
    assert found(disks=(child,), checkpoints=None) == ()


def test_a_vhd_is_backed_up_with_a_note_and_an_empty_drive_without_one() -> None:
    empty = make.drive(path=None, controller_location=1)
    findings = found(disks=(make.drive(format=DiskFormat.VHD), empty))
    assert [finding.severity for finding in findings] == [Severity.NOTE]
    assert included_disks((make.drive(), empty)) == (make.drive(),)
