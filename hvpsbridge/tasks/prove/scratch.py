"""The scratch VM: which VM the kit may touch, and what it does to it.

A scratch VM carries a mark in its notes with its own id and a random token, and a ledger on this machine
holds the same id, token and host. Neither a copied name nor copied notes make another VM a scratch VM.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from hvpsbridge.contract.results import DiskInfo, HostInfo, VmInfo
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.files import StateFile
from hvpsbridge.formats.extents import Extent
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.tasks.host_records import machine_key

FILE_NAME = "scratch-vms.json"
VERSION = 1
_REMEDY = "let hvps make one: hvps host prove HOST --vm NAME --make"


@dataclass(frozen=True, slots=True)
class ScratchEntry:
    """A scratch VM that was made, or is about to be made (without an id).

    Attributes:
        host: the host's own name and machine id, in one text.
        token: random part of the mark.
        repository: path of the last proof's repository, while what that made may still be on the host.
        repository_id: of that repository; it is in the marks of checkpoints.
        reference_points: what is known of those that it made by hand: their ids, and those of their disks.
    """

    host: str
    name: str
    token: str
    vm_id: str = ""
    repository: str = ""
    repository_id: str = ""
    reference_points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the last proof may have left on the host, if that was killed.

    Attributes:
        repository: None if it is gone.
        repository_id: None if nothing is left.
        reference_points: as in :class:`ScratchEntry`.
    """

    repository: Repository | None = None
    repository_id: UUID | None = None
    reference_points: frozenset[str] = frozenset()


def mark_of(vm_id: UUID | str, token: str) -> str:
    """The notes of a scratch VM."""
    return f"hvps scratch VM {str(vm_id).lower()} {token}"


class ScratchLedger:
    """The scratch VMs that the kit made from this machine, in a JSON file.

    Args:
        folder: where the file is; it is created if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._file = StateFile(folder / FILE_NAME, VERSION)

    def entries(self) -> tuple[ScratchEntry, ...]:
        """All entries.

        Raises:
            ConfigurationError: the file cannot be read. Then no VM counts as a scratch VM.
        """
        try:
            document = self._file.read()
            return () if document is None else tuple(map(_entry, document["vms"]))
        except (OSError, ValueError, LookupError, TypeError) as err:
            raise ConfigurationError(str(self._file.path), f"cannot be read: {err}") from err

    def begin(self, info: HostInfo, name: str) -> ScratchEntry:
        """Record that a scratch VM will be made, with a new token."""
        entry = ScratchEntry(machine_key(info), name, secrets.token_hex(16))
        self._write((*self.entries(), entry))
        return entry

    def made(self, entry: ScratchEntry, vm_id: UUID) -> ScratchEntry:
        """Record the id of the scratch VM that was made."""
        return self._replace(entry, replace(entry, vm_id=str(vm_id)))

    def uses(self, entry: ScratchEntry, repository: str, repository_id: UUID) -> None:
        """Record the repository of a proof that begins, once nothing of the last one is left."""
        known = replace(entry, repository=repository, repository_id=str(repository_id), reference_points=())
        self._replace(entry, known)

    def reference_point(self, entry: ScratchEntry, ids: Iterable[str]) -> None:
        """Record ids by which a reference point can be found that is about to be made, or was made."""
        known = next((one for one in self.entries() if one.token == entry.token), entry)
        every = dict.fromkeys((*known.reference_points, *ids))
        self._replace(entry, replace(known, reference_points=tuple(every)))

    def clean(self, entry: ScratchEntry) -> None:
        """Record that the last proof left nothing."""
        self._replace(entry, replace(entry, repository="", repository_id="", reference_points=()))

    def half_made(self, info: HostInfo, name: str) -> tuple[ScratchEntry, ...]:
        """Entries of VMs of that name that were begun, and of which no id is known."""
        here = [one for one in self.entries() if one.host == machine_key(info) and not one.vm_id]
        return tuple(one for one in here if one.name.casefold() == name.casefold())

    def forget(self, entry: ScratchEntry) -> None:
        """Remove an entry: its VM is gone."""
        self._write(tuple(one for one in self.entries() if one.token != entry.token))

    def _replace(self, entry: ScratchEntry, known: ScratchEntry) -> ScratchEntry:
        others = tuple(one for one in self.entries() if one.token != entry.token)
        self._write((*others, known))
        return known

    def _write(self, entries: tuple[ScratchEntry, ...]) -> None:
        self._file.write({"vms": [asdict(entry) for entry in entries]})


def _entry(fields: dict[str, Any]) -> ScratchEntry:
    return ScratchEntry(**{**fields, "reference_points": tuple(fields.get("reference_points", ()))})


def notes_of(host: HyperVHost, vm_id: UUID) -> str:
    """The notes of a VM, from its portable definition; empty if they cannot be read."""
    try:
        definition: Any = json.loads(host.definition(vm_id).json)
        return str(definition["vm"]["Notes"] or "").strip()
    except (ValueError, LookupError, TypeError):
        return ""


def require_scratch(host: HyperVHost, info: HostInfo, vm: VmInfo, ledger: ScratchLedger) -> ScratchEntry:
    """The entry of a scratch VM.

    Raises:
        ConfigurationError: the kit did not make this VM.
    """
    here = [one for one in ledger.entries() if one.host == machine_key(info)]
    entry = next((one for one in here if one.vm_id == str(vm.vm_id)), None)
    if entry is None:
        raise ConfigurationError(
            f"VM {vm.name}",
            f"is not in the ledger of scratch VMs on {info.name}, so it is not touched; {_REMEDY}",
        )
    if notes_of(host, vm.vm_id) != mark_of(vm.vm_id, entry.token):
        raise ConfigurationError(
            f"VM {vm.name}", f"does not have its mark in its notes, so it is not touched; {_REMEDY}"
        )
    return entry


class Scratch(Protocol):
    """What the kit does to a scratch VM between backups. Each method raises NotPossible where it cannot.

    Attributes:
        writes_online: whether :meth:`write` is a running guest's own writing.
    """

    writes_online: bool

    def write(self, disk: DiskInfo, extents: tuple[Extent, ...], seed: int) -> tuple[Extent, ...]:
        """Write new content; what was written, as far as it is known.

        The disk of a VM that is off is written at ``extents``. A guest writes wherever it wants.
        """

    def unmap(self, disk: DiskInfo, extent: Extent) -> None:
        """Trim a range, as the guest."""

    def reads_zeros(self, disk: DiskInfo, extent: Extent) -> bool:
        """Whether the guest reads zeros there."""

    def user_checkpoint(self) -> str:
        """Take a standard checkpoint; its id."""

    def remove_user_checkpoint(self, checkpoint: str) -> None:
        """Remove a checkpoint of :meth:`user_checkpoint`."""

    def apply_user_checkpoint(self, checkpoint: str) -> None:
        """Apply a checkpoint of :meth:`user_checkpoint`."""

    def cut(self) -> None:
        """Cut the VM's power and start it again; a VM without a guest stays off."""

    def clean(self) -> None:
        """Remove checkpoints of the kit that a killed proof left."""

    def move_storage(self) -> None:
        """Move the VM's disks to another folder."""

    def migrate(self) -> None:
        """Move the VM to another host and back."""

    def observe(self, question: str) -> dict[str, Any]:
        """Facts of a probe script, by name."""
