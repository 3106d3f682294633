"""How far a host can be trusted on its build of Windows. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.tasks.host_records import ProvedBuild
from hvpsbridge.tasks.planning.lineage import PROOFS_WANTED, KnownDisk, Lineage
from hvpsbridge.tasks.policy import REFERENCE_IDS, ProofPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTrust:
    """What a host may be trusted with on its build.

    Attributes:
        host: its name, as points have it.
        proved: whether the build was proved there, or is declared to be.
        ids_differ: whether its reference points have other ids than its frozen disks, as last seen.
        missing: why no increment may start from such ids, for people; empty if one may.
        hash_bytes: bytes per second that it hashes; 0 if unknown.
    """

    build: OsBuild
    host: str
    proved: bool = True
    ids_differ: bool = False
    missing: str = ""
    hash_bytes: float = 0.0

    def doubt_of(self, base: KnownDisk) -> str:
        """Why no increment may start from the id of a reference point; empty if one may.

        An id was made by the host and the build of its point, and what is known of another one says nothing.
        """
        if (base.host.casefold(), base.os) != (self.host.casefold(), self.build):
            return f"it was made on {base.host} with Windows {base.os}"
        return self.missing

    def policy(self, asked: ProofPolicy) -> ProofPolicy:
        """When to prove a point: as asked, else by the build."""
        if asked is not ProofPolicy.AUTO:
            return asked
        return ProofPolicy.SAMPLE if self.proved else ProofPolicy.ALWAYS


def trust_build(
    build: OsBuild, host: str, record: ProvedBuild, declared: Collection[str], lineage: Lineage
) -> BuildTrust:
    """What is known about a host on its build.

    An id of a reference point that is later than its checkpoint misses what the guest wrote in between. Only
    a proof with such writes shows that it is not, or points that were made after such a proof.

    Args:
        build: of the host.
        host: its name, as points have it.
        record: of this machine on that build.
        declared: builds that the playbook declares to be proved.
        lineage: the points of the VM.
    """
    missed = record.refuted is not None or lineage.reference_ids_missed(build)
    shown = (
        (record.proved is not None and record.way is IdWay.REFERENCE)
        or f"{build}{REFERENCE_IDS}" in declared
        or (bool(build.revision) and lineage.proved_reference_ids(build, host) >= PROOFS_WANTED)
    )
    missing = ""
    if missed:
        missing = f"on Windows {build} such an id missed changes"
    elif not shown:
        missing = f"hvps host prove --guest has not shown for Windows {build} that such an id misses nothing"
    return BuildTrust(
        build=build,
        host=host,
        proved=record.proved is not None or str(build) in declared or f"{build}{REFERENCE_IDS}" in declared,
        ids_differ=shown or bool(record.differ) or lineage.ids_differ,
        missing=missing,
        hash_bytes=record.hash_bytes,
    )
