"""What came of a backup, and what reports and tables show of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.tasks.planning.eligibility import Finding
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.plan import DiskPlan, VmPlan
from hvpsbridge.tasks.results import TaskResult
from hvpsbridge.tasks.tables import Column, ResultTable
from hvpsbridge.tasks.transfer.figures import DiskFigures
from hvpsbridge.text import one_line
from hvpsbridge.units import duration_text, rate_text, size_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDisk:
    """Mode of one disk, and why.

    Attributes:
        expected: false if the reason deserves attention.
    """

    slot: str
    size_bytes: int
    mode: Mode
    reason: Reason
    reason_text: str
    expected: bool

    @classmethod
    def of(cls, plan: DiskPlan) -> PlannedDisk:
        """What a plan says of its disk."""
        return cls(
            slot=plan.slot,
            size_bytes=plan.facts.size_bytes,
            mode=plan.mode,
            reason=plan.reason,
            reason_text=one_line(plan.why),
            expected=plan.reason.expected,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSection:
    """The report of a backup.

    Attributes:
        point_id: the recovery point; None if there is none.
        consistency: the consistency that was reached; empty without a checkpoint.
        plan: mode and reason of each disk; empty if the backup ended before planning.
        findings: facts about the VM and its disks that matter to a backup.
        disks: what was done, by disk.
        leftovers: what it left on the host, one line each.
        excluded: disks that were left out on request.
    """

    point_id: UUID | None
    consistency: str
    stored_bytes: int
    plan: tuple[PlannedDisk, ...]
    findings: tuple[Finding, ...]
    disks: tuple[DiskFigures, ...]
    leftovers: tuple[str, ...]
    excluded: tuple[ExcludedDisk, ...] = ()


@dataclass(frozen=True, slots=True)
class BackupResult(TaskResult):
    """What came of a backup; see :class:`BackupSection` for the fields."""

    plan: VmPlan | None = None
    findings: tuple[Finding, ...] = ()
    point_id: UUID | None = None
    consistency: str = ""
    disks: tuple[DiskFigures, ...] = ()
    stored_bytes: int = 0

    @property
    def section(self) -> BackupSection:
        """What reports hold of it."""
        return BackupSection(
            point_id=self.point_id,
            consistency=self.consistency,
            stored_bytes=self.stored_bytes,
            plan=() if self.plan is None else tuple(map(PlannedDisk.of, self.plan.disks)),
            findings=self.findings,
            disks=self.disks,
            leftovers=self.leftovers,
            excluded=() if self.plan is None else self.plan.excluded,
        )


def backup_lines(section: BackupSection, planned: bool) -> Iterator[str]:
    """What people read beside the tables: findings, while they can still act on them."""
    if planned:
        for finding in section.findings:
            yield f"{finding.severity.value}: {finding}"


BACKUP_TABLES = (
    ResultTable(
        "plan",
        lambda section: section.plan,
        (
            Column("disk", lambda disk: disk.slot),
            Column("size", lambda disk: size_text(disk.size_bytes), right=True),
            Column("mode", lambda disk: disk.mode.value),
            Column("reason", lambda disk: disk.reason_text),
        ),
        planned=True,
    ),
    ResultTable(
        "backups",
        lambda section: section.disks,
        (
            Column("disk", lambda disk: disk.slot),
            Column("mode", lambda disk: disk.mode.value),
            Column("reason", lambda disk: disk.reason_text),
            Column("changed", lambda disk: size_text(disk.changed_bytes), right=True),
            Column("wire", lambda disk: size_text(disk.wire_bytes), right=True),
            Column("stored", lambda disk: size_text(disk.stored_bytes), right=True),
            Column("time", lambda disk: duration_text(disk.seconds), right=True),
            Column("rate", lambda disk: rate_text(disk.read_bytes, disk.seconds), right=True),
        ),
    ),
)
