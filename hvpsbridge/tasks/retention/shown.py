"""What reports show of decisions about recovery points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.retention import Decision, GuardVerdict, Reason, Rules, VmDecisions
from hvpsbridge.formats.retention.rules import RULES
from hvpsbridge.secret import Word


@dataclass(frozen=True, slots=True)
class ReasonShown:
    """Why a recovery point stays or is removed.

    Attributes:
        reason: the rule by its key in playbooks, or another reason.
        text: for people.
    """

    reason: Word
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedPoint:
    """What happens to a recovery point.

    Attributes:
        age_seconds: negative for a point in the future.
        state: good, less_consistent, damaged, fenced or incomplete.
        keep: whether it stays.
        reasons: all of them.
    """

    point_id: UUID
    created: datetime
    age_seconds: float
    state: Word
    tags: tuple[str, ...]
    protected: bool
    keep: bool
    reasons: tuple[ReasonShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedVm:
    """What happens to the recovery points of a VM, oldest first.

    Attributes:
        kept: how many stay.
        removed: how many are removed.
    """

    vm: str
    vm_id: UUID
    kept: int
    removed: int
    points: tuple[RetainedPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """What retention decides.

    Attributes:
        rules: the rules that are set, as in a playbook.
        time_zone: where days, weeks and so on begin.
        at: points later than this are in the future.
        kept: how many points stay, of all VMs.
        removed: how many are removed, of all VMs.
        out_of_line: why the number is out of line with earlier prunes; empty if it is not.
        protected: points that were protected meanwhile, and so stay.
        unreadable: points whose manifest cannot be read; they stay.
    """

    rules: tuple[str, ...]
    time_zone: str
    at: datetime
    kept: int
    removed: int
    out_of_line: tuple[str, ...]
    protected: tuple[UUID, ...] = ()
    unreadable: tuple[str, ...] = ()
    vms: tuple[RetainedVm, ...]


def prune_report(
    rules: Rules,
    decisions: Sequence[VmDecisions],
    verdict: GuardVerdict,
    now: datetime,
    unreadable: tuple[str, ...] = (),
) -> PruneReport:
    """What reports show of a prune."""
    return PruneReport(
        rules=tuple(rule_texts(rules)),
        time_zone=rules.time_zone,
        at=now,
        kept=sum(len(vm.kept) for vm in decisions),
        removed=verdict.removed,
        out_of_line=tuple(finding.text for finding in verdict.findings),
        unreadable=unreadable,
        vms=tuple(
            RetainedVm(
                vm=vm.vm_name,
                vm_id=vm.vm_id,
                kept=len(vm.kept),
                removed=len(vm.removed),
                points=tuple(_point(decision, now) for decision in vm.decisions),
            )
            for vm in decisions
        ),
    )


def _point(decision: Decision, now: datetime) -> RetainedPoint:
    point = decision.point
    return RetainedPoint(
        point_id=point.point_id,
        created=point.made,
        age_seconds=(now - point.made).total_seconds(),
        state=Word(point.state.value),
        tags=tuple(sorted(point.tags)),
        protected=point.protected,
        keep=decision.keep,
        reasons=reasons_shown(decision.reasons),
    )


def reasons_shown(reasons: Sequence[Reason]) -> tuple[ReasonShown, ...]:
    """What reports show of reasons."""
    return tuple(ReasonShown(Word(reason.why.value), reason.text) for reason in reasons)


def rule_texts(rules: Rules) -> Iterator[str]:
    """The rules that are set, as in a playbook: ``keep_last: 7``."""
    for name in RULES:
        value = getattr(rules, name)
        if isinstance(value, tuple):
            value = f"[{', '.join(repr(each) if ',' in each else each for each in value)}]" if value else ""
        if value:
            yield f"{name}: {value}"
