"""What a proof says about a build, for later backups."""

from __future__ import annotations

from datetime import UTC, datetime

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.tasks.host_records import HostRecords
from hvpsbridge.tasks.prove.prover import ProveResult


def remember(records: HostRecords, info: HostInfo, result: ProveResult) -> None:
    """Record what the proof says about this build, for later backups.

    Ids of reference points count as proved only if they were seen to differ, covered what a running guest
    wrote between the freeze and the conversion, and gave increments in which whole proofs found nothing
    missing. The disk of a VM that is off has another file stack below its writes, so it shows nothing.
    """
    equal = result.facts.get("reference_point.ids_equal_frozen")
    covered = result.facts.get("window.covered")
    if equal is False:
        records.save(info, differ=True)
        if covered is False:
            records.save(info, refuted=datetime.now(UTC))
    if result.proved:
        facts = result.facts
        whole = facts.get("cycle.increments") is True and facts.get("proof.lied_chunks") == 0
        by_guest = covered is True and facts.get("window.by_guest") is True
        way = IdWay.FROZEN if equal is True else None
        if equal is False and by_guest and whole:
            way = IdWay.REFERENCE
        records.save(info, proved=datetime.now(UTC), way=way)
