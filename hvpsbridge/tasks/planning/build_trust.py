"""How far a host can be trusted on its build of Windows. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.tasks.host_records import ProvedBuild
from hvpsbridge.tasks.policy import ProofPolicy


@dataclass(frozen=True, slots=True)
class BuildTrust:
    """What a host may be trusted with on its build.

    Attributes:
        proved: whether ``hvps host prove`` ended well there, or the playbook says so.
        hash_bytes: bytes per second that it hashes; 0 if unknown.
    """

    build: OsBuild
    proved: bool
    hash_bytes: float = 0.0

    def policy(self, asked: ProofPolicy) -> ProofPolicy:
        """When to prove a point: as asked, else by the build."""
        if asked is not ProofPolicy.AUTO:
            return asked
        return ProofPolicy.SAMPLE if self.proved else ProofPolicy.ALWAYS


def trust_build(build: OsBuild, record: ProvedBuild, declared: Collection[str]) -> BuildTrust:
    """What is known about a build.

    Args:
        build: of the host.
        record: of this machine on that build.
        declared: builds that the playbook declares to be proved, as :func:`declared_build` reads them.
    """
    return BuildTrust(build, record.proved is not None or str(build) in declared, record.hash_bytes)
