"""Where a restore writes: ``raw:PATH`` with the names of a VM filled in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.tasks.events import VmRef

# What a file system's path part cannot or should not hold; a VM's name may hold anything.
_UNSAFE = re.compile(r"[/\x00-\x1f\x7f]")
_LONGEST = 200


def folder_of(target: str, run_id: UUID) -> Callable[[VmRef], Path]:
    """The folder for a VM's disks, from a target such as ``raw:/srv/drill/{{ vm }}``.

    The names of a VM become one part of a path each: separators and control characters in them are
    replaced, and a name of dots alone too, so that no VM's name leads out of the folder.
    """
    _, _, path = target.partition(":")

    def folder(vm: VmRef) -> Path:
        names = {
            "vm": vm.name,
            "vm_id": str(vm.vm_id or ""),
            "host": vm.host,
            "run_id": str(run_id),
        }
        filled = path
        for name, value in names.items():
            filled = filled.replace("{{ " + name + " }}", path_part(value))
        return Path(filled).expanduser().absolute()

    return folder


def path_part(text: str) -> str:
    """Text as one part of a path."""
    part = _UNSAFE.sub("_", text)[:_LONGEST]
    return "_" * max(len(part), 1) if not part.strip(".") else part


def target_path(target: str) -> Path:
    """The path of an ad hoc target.

    Raises:
        ConfigurationError: it is none.
    """
    kind, colon, path = target.partition(":")
    if not colon or kind != "raw" or not path:
        raise ConfigurationError(f"--to {target}", "is no target; write raw:PATH")
    return Path(path).expanduser().absolute()
