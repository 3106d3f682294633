"""``hvps mount``: disks of a recovery point as files. Needs no host, and no root."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.fuse.mount import MountedFile, mount
from hvpsbridge.tasks.file_names import disk_file_name
from hvpsbridge.tasks.files.contents import contents
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.task import choose_disks


@click.command("mount")
@click.argument("point")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--disk", type=click.IntRange(min=0), help="Only the disk of this number.")
@repository_options
@click.pass_obj
def mount_(invocation: Invocation, /, point: str, folder: Path, disk: int | None, **options: Any) -> ExitCode:
    """Mount the disks of POINT as files in FOLDER until a signal comes or FOLDER is unmounted.

    Each disk is there as a raw image and as a VHDX (scsi-0-0.raw, scsi-0-0.vhdx), each of its partitions as
    a raw image (scsi-0-0-p1.raw), and so is each logical volume of LVM (lvm-vg0-root.raw). Nothing can be
    changed, and nothing is restored first: a part of a disk is read when someone reads it. What is damaged
    is an I/O error where it is. Needs libfuse 3 and hvpsbridge[mount], and hvpsbridge[files] for partitions
    and logical volumes.
    """
    with ExitStack() as stack:
        keep_buffers()
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            found = repository.catalog.find_point(point)
            readers = stack.enter_context(repository.readers())
            files = []
            disks = [(one, repository.reader(readers, one)) for one in choose_disks(found, disk)]
            for one, reader in disks:
                shape = DiskSource(repository, found, one).shape()
                view = vhdx_view(shape, reader.extents(), uuid4())
                for suffix, content in (("raw", reader), ("vhdx", ViewFile(view, reader))):
                    name = disk_file_name(one.slot, suffix)
                    files.append(MountedFile(name, content, found.manifest.created))
            files += [
                MountedFile(f"{name}.raw", volume, found.manifest.created)
                for name, volume in contents(disks, _warn)
            ]
        console.line(
            f"{folder}: {', '.join(file.name for file in files)}; to unmount: fusermount3 -u {folder}"
        )
        console.flush()
        mount(files, folder)
    return ExitCode.DONE


def _warn(text: str) -> None:
    console.note(f"hvps: warning: {text}")
