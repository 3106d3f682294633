"""What a host must have for a restored VM: ISO files, versions, templates, memory, processors, switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.errors import OperationFailed
from hvpsbridge.formats.vm_devices import PlannedDisk
from hvpsbridge.formats.vm_plan import PlanOptions, isos_in, needs_of, vm_plan
from hvpsbridge.units import size_text

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost


def find_isos(host: HyperVHost, definition: str) -> frozenset[str]:
    """Those ISO files of the definition that the host has."""
    wanted = isos_in(definition)
    if not wanted:
        return frozenset()
    try:
        return frozenset(host.restoring.folder(None, wanted).found)
    except OperationFailed:
        return frozenset()


def host_lacks(
    host: HyperVHost,
    info: HostInfo,
    definition: str,
    disks: Sequence[PlannedDisk],
    options: PlanOptions,
    *,
    needed: bool = True,
) -> list[str]:
    """What the host does not have for a VM of the definition, or what the definition lacks, one line each.

    Args:
        host: the host.
        info: what it says of itself.
        definition: of the VM.
        disks: of the new VM.
        options: how it is made.
        needed: the VM is made of the definition, which must be complete.

    Raises:
        HostError: the host cannot be asked for its switches.
    """
    try:
        needs = needs_of(vm_plan(definition, disks, options))
    except ValueError as err:
        return [str(err)] if needed else []
    problems = []
    if needs.version is not None and needs.version not in info.supported_vm_versions:
        known = ", ".join(info.supported_vm_versions)
        problems.append(f"the host does not have configuration version {needs.version}, but {known}")
    templates = info.secure_boot_templates
    if needs.template is not None and templates and needs.template not in templates:
        known = ", ".join(templates)
        problems.append(f"the host does not have secure boot template {needs.template}, but {known}")
    if needs.memory_bytes > info.memory_bytes:
        have = size_text(info.memory_bytes)
        problems.append(f"the VM starts with {size_text(needs.memory_bytes)} of memory, the host has {have}")
    if (needs.processors or 0) > info.logical_processors:
        problems.append(f"the VM has {needs.processors} processors, the host {info.logical_processors}")
    if needs.switches:
        names = {switch.name for switch in host.restoring.switches()}
        problems += [
            f"the host has no switch {name!r}; create it, or leave out --connect-network"
            for name in needs.switches
            if name not in names
        ]
    return problems
