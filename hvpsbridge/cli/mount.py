"""``hvps mount``: disks of a recovery point as files. Needs no host, and no root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.views.file import ViewFile
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.fuse.mount import MountedFile, mount
from hvpsbridge.repository.reading import DiskReader
from hvpsbridge.tasks.file_names import disk_file_name, disk_name, path_part
from hvpsbridge.tasks.files.partitions import partitions
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

    Each disk is there as a raw image and as a VHDX (scsi-0-0.raw, scsi-0-0.vhdx), and each of its partitions
    as a raw image (scsi-0-0-p1.raw). Nothing can be changed, and nothing is restored first: a part of a disk
    is read when someone reads it. What is damaged is an I/O error where it is. Needs libfuse 3 and
    hvpsbridge[mount], and hvpsbridge[files] for partitions.
    """
    with ExitStack() as stack:
        keep_buffers()
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            found = repository.catalog.find_point(point)
            readers = stack.enter_context(repository.readers())
            files = []
            for one in choose_disks(found, disk):
                reader = repository.reader(readers, one)
                shape = DiskSource(repository, found, one).shape()
                view = vhdx_view(shape, reader.extents(), uuid4())
                for suffix, content in (("raw", reader), ("vhdx", ViewFile(view, reader))):
                    name = disk_file_name(one.slot, suffix)
                    files.append(MountedFile(name, content, found.manifest.created))
                files += _partitions(one, reader, found.manifest.created)
        console.line(
            f"{folder}: {', '.join(file.name for file in files)}; to unmount: fusermount3 -u {folder}"
        )
        console.flush()
        mount(files, folder)
    return ExitCode.DONE


def _partitions(disk: ManifestDisk, reader: DiskReader, changed: datetime) -> Iterator[MountedFile]:
    """Files of the partitions of a disk. The disk is there without them, too."""
    try:
        for number, content in partitions(reader, disk.sector_bytes):
            name = f"{disk_name(disk.slot)}-p{path_part(number)}.raw"
            yield MountedFile(name, content, changed)
    except HvpsError as err:
        console.note(f"hvps: warning: partitions of disk {disk.slot} are not shown: {err}")
