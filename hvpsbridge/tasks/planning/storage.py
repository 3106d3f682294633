"""What the storage behind a VM means for its backup. Pure: facts in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hvpsbridge.contract.checks import DiskProbe, StorageInfo, StorageKind
from hvpsbridge.errors.codes import code_text
from hvpsbridge.tasks.planning.eligibility import Finding, Severity
from hvpsbridge.units import size_text

# Of a disk that the session may not open: access denied, or a privilege is missing.
ACCESS_DENIED = frozenset({5, 0x80070005, 1314, 0x80070522})
DELEGATION = "allow the host delegation to the file server, see VMs on SMB in docs/real-host.md"


_SHARE = re.compile(r"\\\\(?:\?\\UNC\\)?([^\\?.][^\\]*\\[^\\]+)", re.IGNORECASE)


def share_of(path: str) -> str | None:
    """``\\\\server\\share`` of a path on an SMB share, in lower case; None for other paths."""
    found = _SHARE.match(path)
    return f"\\\\{found[1].lower()}" if found else None


def share_findings(probes: Iterable[DiskProbe]) -> Iterator[Finding]:
    """A refusal for each disk on a share that this login cannot open (docs/hyperv-facts.md#second-hop).

    VMMS opens the file with the rights of the host, but a reader with those of the session, which has no
    second hop without delegation. So everything looks well until a disk is read.
    """
    for probe in probes:
        if share_of(probe.path) and probe.native in ACCESS_DENIED:
            yield Finding(
                Severity.REFUSE,
                f"the login has no access to {probe.path}: {code_text(probe.native)}",
                DELEGATION,
            )


def storage_findings(storage: Iterable[StorageInfo], floor_bytes: int) -> Iterator[Finding]:
    """What matters about the volumes and shares of a VM.

    Args:
        storage: those of the VM.
        floor_bytes: free space that each must keep.
    """
    for place in storage:
        if place.free_bytes is None:
            yield unwatched(place.root)
        elif place.free_bytes < floor_bytes:
            yield Finding(
                Severity.REFUSE,
                f"volume {place.root} has {size_text(place.free_bytes)} free, "
                f"and {size_text(floor_bytes)} must stay free",
                "free space there, or lower limits: free_space_floor",
            )
        if place.kind is StorageKind.OTHER:
            yield Finding(
                Severity.NOTE,
                f"{place.root} has the file system {place.file_system or 'unknown'}",
                "move the VM to NTFS or ReFS",
            )


def unwatched(root: str) -> Finding:
    """A note about a place whose free space the host does not know."""
    return Finding(
        Severity.NOTE,
        f"no free space is known for {root}, so a backup does not watch it",
        "watch it on the file server: the files of a checkpoint grow there",
    )
