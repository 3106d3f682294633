"""Configuration files of VMs and checkpoints.

The real ``.vmcx``, ``.vmrs`` and ``.vmgs`` are private binary formats. Here they are bytes that depend on
the configuration alone: equal configurations give equal files.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hvpsbridge.sim.model.state import Checkpoint, Vm
from hvpsbridge.units import KIB

# Orders of magnitude of real files; none is a multiple of a chunk or a page.
_SIZES = {"vmcx": 61 * KIB + 13, "vmrs": 37 * KIB + 5, "vmgs": 256 * KIB + 1}


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


def files(vm: Vm, checkpoint: Checkpoint | None = None) -> tuple[ConfigurationFile, ...]:
    """Configuration files of a VM or a checkpoint; ``.vmgs`` for generation 2 only."""
    stem = f"{data_root(vm)}\\{data_file(vm, checkpoint)}".removesuffix(".vmcx")
    revision = vm.revision if checkpoint is None else checkpoint.revision
    kinds = ["vmcx", "vmrs", *(["vmgs"] if vm.generation == 2 else [])]
    return tuple(
        ConfigurationFile(f"{stem}.{kind}", _content(stem, kind, revision, _SIZES[kind])) for kind in kinds
    )


def _content(stem: str, kind: str, revision: int, size_bytes: int) -> bytes:
    chance = random.Random(f"{stem}|{kind}|{revision}")  # content, not a secret
    return chance.randbytes(size_bytes)
