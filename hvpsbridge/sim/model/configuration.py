"""Configuration files of VMs and checkpoints.

The real ``.vmcx``, ``.vmrs`` and ``.vmgs`` are private binary formats. Here a ``.vmcx`` has the settings of
the VM as JSON, so that a planned VM can be made of it; the rest are bytes that depend on the configuration
alone: equal configurations give equal files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hvpsbridge.sim.model.state import Checkpoint, Vm
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.units import KIB

# Orders of magnitude of real files; none is a multiple of a chunk or a page.
_SIZES = {"vmcx": 61 * KIB + 13, "vmrs": 37 * KIB + 5, "vmgs": 256 * KIB + 1}
_MAGIC = b"simulated configuration\n"


@dataclass(frozen=True, slots=True)
class ConfigurationFile:
    """A configuration file on the host."""

    path: str
    content: bytes


def data_root(vm: Vm) -> str:
    """``ConfigurationDataRoot``."""
    return vm.folder


def data_file(vm: Vm, checkpoint: Checkpoint | None = None) -> str:
    """``ConfigurationFile`` of a VM or a checkpoint, relative to the root."""
    if checkpoint is None:
        return f"Virtual Machines\\{str(vm.vm_id).upper()}.vmcx"
    return f"Snapshots\\{str(checkpoint.checkpoint_id).upper()}.vmcx"


def settings_of(vm: Vm, layers: Mapping[int, Layer]) -> str:
    """What the ``.vmcx`` of a VM says of it now, as JSON.

    Args:
        vm: the VM.
        layers: the disk files of the world, by number.
    """
    drives = [
        {
            "slot": slot,
            "path": None if drive.layer is None else layers[drive.layer].drive_path,
            "shared": drive.shared,
        }
        for slot, drive in sorted(vm.drives.items())
    ]
    return json.dumps(
        {
            "vm_id": str(vm.vm_id),
            "name": vm.name,
            "folder": vm.folder,
            "notes": vm.notes,
            "generation": vm.generation,
            "version": vm.version,
            "checkpoint_type": int(vm.checkpoint_type),
            "automatic_checkpoints": vm.automatic_checkpoints,
            "processor_count": vm.processor_count,
            "memory_bytes": vm.memory_bytes,
            "shielded": vm.shielded,
            "tpm_enabled": vm.tpm_enabled,
            "guest_backup": vm.guest_backup,
            "parent": None if vm.parent_checkpoint is None else str(vm.parent_checkpoint),
            "hardware": vm.hardware,
            "drives": drives,
        },
        separators=(",", ":"),
    )


def files(
    vm: Vm, layers: Mapping[int, Layer], checkpoint: Checkpoint | None = None
) -> tuple[ConfigurationFile, ...]:
    """Configuration files of a VM or a checkpoint; ``.vmgs`` for generation 2 only."""
    stem = f"{data_root(vm)}\\{data_file(vm, checkpoint)}".removesuffix(".vmcx")
    revision = vm.revision if checkpoint is None else checkpoint.revision
    settings = "" if checkpoint is None else checkpoint.configuration
    kinds = ["vmcx", "vmrs", *(["vmgs"] if vm.generation == 2 else [])]
    return tuple(
        ConfigurationFile(
            f"{stem}.{kind}",
            _content(
                stem,
                kind,
                revision,
                _head(settings or settings_of(vm, layers)) if kind == "vmcx" else b"",
            ),
        )
        for kind in kinds
    )


def parse(content: bytes) -> dict[str, Any]:
    """The settings in a ``.vmcx``.

    Raises:
        ValueError: it is not one.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("not a configuration file")
    found = json.loads(content.removeprefix(_MAGIC).partition(b"\n")[0])
    if not isinstance(found, dict):
        raise ValueError("not the settings of a VM")
    return found


def _head(settings: str) -> bytes:
    return _MAGIC + settings.encode() + b"\n"


def _content(stem: str, kind: str, revision: int, head: bytes) -> bytes:
    chance = random.Random(f"{stem}|{kind}|{revision}")  # content, not a secret
    return head + chance.randbytes(max(1, _SIZES[kind] - len(head)))
