"""``hvps serve``: disks of a recovery point over NBD. Needs no host, and no root."""

from __future__ import annotations

import contextlib
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.errors import ExitCode, Interrupted
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.server import Server, unix_socket
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.reading import ChunkReaders
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.file_names import disk_name
from hvpsbridge.tasks.restore.task import choose_disks
from hvpsbridge.units import size_text

# A signal ends the wait at once.
_WAIT_SECONDS = 3600.0


@click.command("serve")
@click.argument("point")
@click.option("--disk", type=click.IntRange(min=0), help="Only the disk of this number.")
@click.option(
    "--socket",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Unix socket to listen on [default: a new one in a folder of its own].",
)
@repository_options
@click.pass_obj
def serve_(
    invocation: Invocation, /, point: str, disk: int | None, path: Path | None, **options: Any
) -> ExitCode:
    """Serve the disks of POINT over NBD until a signal comes.

    Each disk is an export named for its slot (scsi-0-0). Its URI is printed; qemu-img, QEMU, nbdcopy and
    other clients read it. The exports are read-only. The socket is for this account only, and is removed at
    the end.
    """
    cancel = Cancellation()
    with ExitStack() as stack:
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            found = repository.catalog.find_point(point)
            chosen = choose_disks(found, disk)
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvps-serve-"))) / "nbd.sock"
        readers = stack.enter_context(repository.readers())
        exports = {each.name: each for each in _exports(repository, readers, found, chosen)}
        listening = unix_socket(path)
        stack.callback(path.unlink, missing_ok=True)
        stack.enter_context(catch_signals(cancel, report_first))
        stack.enter_context(Server(listening, exports))
        for name, export in exports.items():
            uri = f"nbd+unix:///{quote(name)}?socket={quote(str(path))}"
            console.line(f"{uri}  {size_text(export.disk.size_bytes)}")
        console.flush()
        with contextlib.suppress(Interrupted):
            while cancel.pause(_WAIT_SECONDS):
                pass
    return ExitCode.DONE


def _exports(
    repository: Repository, readers: ChunkReaders, point: Point, disks: tuple[ManifestDisk, ...]
) -> list[Export]:
    return [
        Export(
            name=disk_name(disk.slot),
            description=f"{point.vm_name} {disk.slot}, {point.manifest.created:%Y-%m-%d %H:%M:%S} UTC",
            disk=repository.reader(readers, disk),
            block_bytes=repository.grid.chunk_bytes,
        )
        for disk in disks
    ]
