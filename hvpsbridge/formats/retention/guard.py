"""The guard: whether the number of points to remove is out of line with what earlier prunes removed.

In line is what a prune by unchanged rules removes: about as many points as were made since the last one. Out
of line is what follows from a rule that was changed or mistyped, or from a clock that was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from hvpsbridge.errors import PruneOutOfLine
from hvpsbridge.formats.retention.points import State, VmDecisions

# Removing up to this many points of a VM, or in all, is never out of line.
FEW_OF_A_VM = 2
FEW_IN_ALL = 10
# How many times what an earlier prune removed is in line.
FACTOR = 3
# How many earlier prunes count.
REMEMBERED = 10
# Removals at most this far apart belong to one prune.
ONE_PRUNE = timedelta(hours=1)
# How many findings an error names.
NAMED = 3


@dataclass(frozen=True, slots=True)
class PastPrune:
    """What an earlier prune removed.

    Attributes:
        at: when it ended.
        removed: number of points by VM id.
    """

    at: datetime
    removed: Mapping[UUID, int]


def past_prunes(removals: Iterable[tuple[UUID, datetime]]) -> tuple[PastPrune, ...]:
    """Earlier prunes, oldest first, from the VM and time of each removal (the tombstones)."""
    found: list[PastPrune] = []
    counts: Counter[UUID] = Counter()
    last: datetime | None = None
    for vm_id, at in sorted(removals, key=lambda removal: (removal[1], removal[0].hex)):
        if last is not None and at - last > ONE_PRUNE:
            found.append(PastPrune(last, dict(counts)))
            counts.clear()
        counts[vm_id] += 1
        last = at
    if last is not None:
        found.append(PastPrune(last, dict(counts)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class GuardFinding:
    """One thing that is out of line.

    Attributes:
        vm_id: the VM; None for all together.
        text: what it is, for people.
    """

    vm_id: UUID | None
    text: str


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What the guard says.

    Attributes:
        removed: number of points to remove; naming it overrides the guard.
        findings: what is out of line; all VMs together first, then VM by VM.
    """

    removed: int
    findings: tuple[GuardFinding, ...]

    @property
    def in_line(self) -> bool:
        """Whether nothing is out of line."""
        return not self.findings


def guard(decisions: Sequence[VmDecisions], history: Iterable[PastPrune], now: datetime) -> GuardVerdict:
    """Whether removing what was decided is in line with earlier prunes.

    Out of line is:

    - in all: more than three times what any of the last ten prunes removed, more than were made since the
      last one, more than two a VM, and more than ten;
    - of one VM: more than half of its points, more than three times what any of these prunes removed from
      it, more than were made since the last one, and more than two.
    """
    prunes = sorted((prune for prune in history if prune.at <= now), key=lambda prune: prune.at)[-REMEMBERED:]
    removed = sum(len(vm.removed) for vm in decisions)
    most = max((sum(prune.removed.values()) for prune in prunes), default=0)
    new = sum(_made_since(vm, prunes, now) for vm in decisions)
    findings = []
    if removed > max(FACTOR * most, new, FEW_OF_A_VM * len(decisions), FEW_IN_ALL):
        findings.append(
            GuardFinding(None, f"{removed} of {sum(map(_points, decisions))} points {_most(most)}")
        )
    for vm in decisions:
        gone, points = len(vm.removed), _points(vm)
        most = max((prune.removed.get(vm.vm_id, 0) for prune in prunes), default=0)
        usual = max(FACTOR * most, _made_since(vm, prunes, now), FEW_OF_A_VM)
        if 2 * gone > points and gone > usual:
            text = f"{gone} of {points} points of VM {vm.vm_name or vm.vm_id} {_most(most)}"
            findings.append(GuardFinding(vm.vm_id, text))
    return GuardVerdict(removed, tuple(findings))


def refuse_out_of_line(verdict: GuardVerdict, confirmed: int | None) -> None:
    """Return if the removals are in line, or their exact number was confirmed.

    Raises:
        PruneOutOfLine: they are not, and it was not.
    """
    if verdict.in_line or confirmed == verdict.removed:
        return
    texts = [finding.text for finding in verdict.findings]
    more = len(texts) - NAMED
    raise PruneOutOfLine(
        verdict.removed, (*texts[:NAMED], *([f"and points of {more} more VMs"] if more > 0 else ()))
    )


def _points(vm: VmDecisions) -> int:
    """Points of a VM, without what collect or a run decides about."""
    others = (State.FENCED, State.INCOMPLETE)
    return sum(decision.point.state not in others for decision in vm.decisions)


def _made_since(vm: VmDecisions, prunes: Sequence[PastPrune], now: datetime) -> int:
    """Points made since the last prune; 0 if there was none."""
    if not prunes:
        return 0
    return sum(prunes[-1].at < decision.point.made <= now for decision in vm.decisions)


def _most(number: int) -> str:
    return f"(earlier prunes: {f'at most {number}' if number else 'none'})"
