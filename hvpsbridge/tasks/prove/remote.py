"""The scratch VM through the probe scripts of the conformance kit, which run on the host."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from hvpsbridge.contract.results import DiskInfo, VmInfo
from hvpsbridge.errors import ConfigurationError, OperationFailed
from hvpsbridge.formats.extents import Extent
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.prove.findings import NotPossible
from hvpsbridge.tasks.prove.scratch import ScratchEntry, ScratchLedger, mark_of, notes_of

# Longest probe: it makes several checkpoints, and waits for their merges.
PROBE_SECONDS = 1800
# How long a guest writes between two backups.
GUEST_WRITES_SECONDS = 10
SET_SCRATCH_VM = "Set-ScratchVm"
NEW_SCRATCH_VM = "New-ScratchVm"
REMOVE_SCRATCH_VM = "Remove-ScratchVm"
# Of the simulated host's builtin engine, which answers operations without running scripts.
RUNS_NO_SCRIPTS = "Hvps.NotOurScript"
# In this order: the first ones change nothing.
PROBES = (
    "Get-Facts",
    "Test-Compile",
    "Probe-Checkpoint",
    "Probe-Tracking",
    "Probe-Reading",
    "Probe-Merge",
    "Probe-Restore",
)
# Those that need no scratch VM.
READ_ONLY = ("Get-Facts", "Test-Compile")


def run_probe(host: HyperVHost, name: str, parameters: Mapping[str, object]) -> dict[str, Any]:
    """Facts of a probe, by name.

    Raises:
        NotPossible: the host runs no scripts but the operations of hvps, or the probe says why it cannot run.
        HostError: the probe failed.
    """
    facts: dict[str, Any] = {}
    try:
        for fact, text in host.checks.probe(name, parameters, PROBE_SECONDS):
            facts[fact] = json.loads(text)
    except OperationFailed as err:
        if err.error_id.startswith(RUNS_NO_SCRIPTS):
            raise NotPossible("this simulated host runs no scripts; use its engine powershell") from err
        raise
    if "not_possible" in facts:
        raise NotPossible(str(facts["not_possible"]))
    return facts


def make_scratch_vm(
    host: HyperVHost, ledger: ScratchLedger, name: str, folder: str, disk_mib: int, generation: int
) -> ScratchEntry:
    """Make a scratch VM without an operating system, off.

    What an earlier attempt left half made is removed first, by its mark.

    Raises:
        NotPossible: the host runs no scripts but those of hvps.
        ConfigurationError: a VM has that name that the kit did not make.
        HostError: the host made none.
    """
    info = host.host_info()
    for half in ledger.half_made(info, name):
        for vm in named(host, name):
            if notes_of(host, vm.vm_id) == mark_of(vm.vm_id, half.token):
                run_probe(host, REMOVE_SCRATCH_VM, {"VmId": str(vm.vm_id), "Token": half.token})
        ledger.forget(half)
    if named(host, name):
        raise ConfigurationError(f"VM {name}", f"exists on {host.name} already; use another name")
    entry = ledger.begin(info, name)
    try:
        facts = run_probe(
            host,
            NEW_SCRATCH_VM,
            {
                "Name": name,
                "Token": entry.token,
                "Folder": folder,
                "DiskMiB": disk_mib,
                "Generation": generation,
            },
        )
    except NotPossible:
        ledger.forget(entry)
        raise
    return ledger.made(entry, UUID(facts["scratch.vm_id"]))


def named(host: HyperVHost, name: str) -> list[VmInfo]:
    """VMs of that name, in any case of letters."""
    return [one for one in host.list_vms()[0] if one.name.casefold() == name.casefold()]


class HostScratch:
    """A scratch VM on a host, by probe scripts. Each checks the VM's mark again.

    Args:
        host: a session of its own, since probes take long.
        entry: from the ledger.
        guest: whether a guest runs in the VM and writes all the time, as the Linux disk of the kit does.
        pause: waits.
    """

    def __init__(
        self, host: HyperVHost, entry: ScratchEntry, *, guest: bool, pause: Callable[[float], object]
    ) -> None:
        self._host = host
        self._entry = entry
        self._guest = guest
        self.writes_online = guest
        self._pause = pause

    def write(self, disk: DiskInfo, extents: tuple[Extent, ...], seed: int) -> tuple[Extent, ...]:
        """Write new content into a disk of the VM, which is off; with a guest, let it write for a while."""
        if self._guest:
            self._pause(GUEST_WRITES_SECONDS)
            return ()
        ranges = [f"{extent.offset}:{extent.length}" for extent in extents]
        self._set("write", Path=disk.path, Ranges=",".join(ranges), Seed=seed)
        return extents

    def unmap(self, disk: DiskInfo, extent: Extent) -> None:
        """Only a guest can trim."""
        raise NotPossible("only a guest trims: use a scratch VM with the Linux disk of the kit")

    def reads_zeros(self, disk: DiskInfo, extent: Extent) -> bool:
        """As :meth:`unmap`."""
        raise NotPossible("only a guest trims: use a scratch VM with the Linux disk of the kit")

    def user_checkpoint(self) -> str:
        """Take a standard checkpoint; its id."""
        return str(self._set("checkpoint")["scratch.checkpoint"])

    def remove_user_checkpoint(self, checkpoint: str) -> None:
        """Remove it and wait for the merge."""
        self._set("uncheckpoint", Checkpoint=checkpoint)

    def apply_user_checkpoint(self, checkpoint: str) -> None:
        """Apply it; a VM that was running is started again."""
        self._set("apply", Checkpoint=checkpoint)

    def cut(self) -> None:
        """Start the VM, which finds no operating system, and cut its power."""
        self._set("cut")

    def clean(self) -> None:
        """Remove checkpoints of the kit that a killed proof left, and wait for their merges."""
        self._set("clean")

    def move_storage(self) -> None:
        """Move the VM's disks into another folder beside it."""
        self._set("move")

    def migrate(self) -> None:
        """The kit moves no VM to another host by itself."""
        raise NotPossible("live migration is not part of the kit; see docs/real-host.md")

    def observe(self, question: str) -> dict[str, Any]:
        """Facts of a probe."""
        parameters = {} if question in READ_ONLY else self._vm
        return run_probe(self._host, question, parameters)

    def remove(self) -> tuple[str, ...]:
        """Remove the VM and its files; files of its disks that stay on the host."""
        return tuple(run_probe(self._host, REMOVE_SCRATCH_VM, self._vm)["scratch.left"])

    @property
    def _vm(self) -> dict[str, object]:
        return {"VmId": self._entry.vm_id, "Token": self._entry.token}

    def _set(self, action: str, **parameters: object) -> dict[str, Any]:
        return run_probe(self._host, SET_SCRATCH_VM, {**self._vm, "Action": action, **parameters})
