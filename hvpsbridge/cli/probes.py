"""``hvps host probes``: the scripts of the conformance kit, to run them by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from hvpsbridge.cli import console
from hvpsbridge.errors import ExitCode
from hvpsbridge.host.scripts import probe_text
from hvpsbridge.resources import resource_folder
from hvpsbridge.tasks.prove import remote


@click.command("probes", short_help="Write the scripts of the conformance kit into a folder.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def probes(folder: Path) -> ExitCode:
    """Write the scripts of the conformance kit into FOLDER.

    Each probe is one file for Windows PowerShell 5.1 and an administrator, to run it on a host by hand.
    Get-Help shows its parameters, and -WhatIf what it would do. probe_wire.py measures WinRM from this
    machine, and linux/build makes the disk of a Linux guest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = (remote.NEW_SCRATCH_VM, remote.SET_SCRATCH_VM, remote.REMOVE_SCRATCH_VM, *remote.PROBES)
    for name in names:
        (folder / f"{name}.ps1").write_text(probe_text(name), encoding="ascii", newline="\r\n")
        console.line(str(folder / f"{name}.ps1"))
    kit = resource_folder("conformance")
    shutil.copy(kit / "probe_wire.py", folder)
    shutil.copytree(kit / "linux", folder / "linux", dirs_exist_ok=True)
    for file in (folder / "probe_wire.py", *sorted((folder / "linux").iterdir())):
        file.chmod(0o755)
        console.line(str(file))
    return ExitCode.DONE
