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
from hvpsbridge.tasks.planning.eligibility import Finding, Severity, examine, included_disks, refusals, waits
from hvpsbridge.tasks.planning.mark import Mark
from tests.tasks import builders as make

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
        (found(make.vm(checkpoint_policy=CheckpointPolicy.DISABLED)), "checkpoints are disabled"),
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
        found(make.vm(state=VmState.PAUSED)),
        found(make.vm(state=VmState.STARTING)),
        found(make.vm(operational_status=(2, 32772))),
        found(make.vm(operational_status=(2, 32772)), (make.drive(path="C:\\web_1.avhdx"),)),
        found(checkpoints=(make.checkpoint(name="Other Product Backup"),)),
        found(checkpoints=(make.checkpoint(name=THEIRS),)),
    ],
)
def test_what_passes_is_waited_for(findings: tuple[Finding, ...]) -> None:
    assert len(waits(findings)) == 1
    assert refusals(findings) == ()


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
