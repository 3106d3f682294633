"""``hvps serve``: disks of a recovery point over NBD. Needs no host, and no root."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.errors import ConfigurationError, ExitCode, Interrupted, TargetExists, UsageError
from hvpsbridge.folders import absolute
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.nbd.certificates import make_certificates
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.overlay import Overlay
from hvpsbridge.nbd.server import Server, tcp_socket, unix_socket
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.reading import ChunkReaders
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.file_names import disk_name
from hvpsbridge.tasks.restore.images import write_qcow2
from hvpsbridge.tasks.restore.task import choose_disks
from hvpsbridge.units import size_text

# A signal ends the wait at once.
_WAIT_SECONDS = 3600.0
_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Served:
    """One disk: its export, and where what was written to it is kept."""

    export: Export
    overlay: Overlay | None
    kept_as: Path | None


@click.command("serve")
@click.argument("point")
@click.option("--disk", type=click.IntRange(min=0), help="Only the disk of this number.")
@click.option(
    "--socket",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Unix socket to listen on [default: a new one in a folder of its own].",
)
@click.option("--tcp", metavar="ADDRESS:PORT", help="Listen there instead, with TLS and client certificates.")
@click.option(
    "--certificates",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for the client's certificates [default: a temporary one].",
)
@click.option("--writable", is_flag=True, help="Take writes, and drop them at the end.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Take writes, and write each disk as a qcow2 file into this folder at the end.",
)
@repository_options
@click.pass_obj
def serve_(
    invocation: Invocation,
    /,
    point: str,
    disk: int | None,
    path: Path | None,
    tcp: str | None,
    certificates: Path | None,
    writable: bool,
    keep: Path | None,
    **options: Any,
) -> ExitCode:
    """Serve the disks of POINT over NBD until a signal comes.

    Each disk is an export named for its slot (scsi-0-0). Its URI is printed; qemu-img, QEMU, nbdcopy and
    other clients read it. The point never changes: what clients write with --writable or --keep goes to a
    temporary file. A Unix socket is for this account only, and is removed at the end.

    With --tcp, clients need the certificates that are made for this run, and the name of the export, which
    cannot be guessed.
    """
    if path is not None and tcp is not None:
        raise UsageError("--socket and --tcp cannot be combined")
    cancel = Cancellation()
    with ExitStack() as stack:
        keep_buffers()
        with interrupting():
            repository = compose.repository(repository_spec(options, invocation), invocation)
            found = repository.catalog.find_point(point)
            chosen = choose_disks(found, disk)
        secret = f"-{secrets.token_hex(_TOKEN_BYTES)}" if tcp else ""
        readers = stack.enter_context(repository.readers())
        served = [
            _serve_disk(stack, repository, readers, found, one, secret, writable=writable, keep=keep)
            for one in chosen
        ]
        exports = {one.export.name: one.export for one in served}
        if tcp is None:
            path = path or _temporary(stack) / "nbd.sock"
            server = Server(unix_socket(path), exports)
            stack.callback(path.unlink, missing_ok=True)
            before, after = "nbd+unix:///", f"?socket={quote(str(path))}"
        else:
            server, before, after = _tcp_server(stack, tcp, certificates, exports)
        stack.enter_context(catch_signals(cancel, report_first))
        with server:
            for name, export in exports.items():
                console.line(f"{before}{quote(name)}{after}  {size_text(export.disk.size_bytes)}")
            console.flush()
            with contextlib.suppress(Interrupted):
                while cancel.pause(_WAIT_SECONDS):
                    pass
        for one in served:
            if one.overlay is not None and one.kept_as is not None:
                write_qcow2(one.kept_as, one.overlay)
                console.note(f"hvps: {one.kept_as} has what was written")
    return ExitCode.DONE


def _serve_disk(
    stack: ExitStack,
    repository: Repository,
    readers: ChunkReaders,
    point: Point,
    disk: ManifestDisk,
    secret: str,
    *,
    writable: bool,
    keep: Path | None,
) -> _Served:
    reader = repository.reader(readers, disk)
    overlay = Overlay(reader) if writable or keep is not None else None
    kept_as = None
    if overlay is not None:
        stack.callback(overlay.close)
    if keep is not None:
        kept_as = absolute(keep) / f"{disk_name(disk.slot)}.qcow2"
        if kept_as.exists():
            raise TargetExists(str(kept_as))
        if repository.holds(kept_as):
            raise ConfigurationError(str(keep), "is inside the repository; use another folder")
    export = Export(
        name=disk_name(disk.slot) + secret,
        description=f"{point.vm_name} {disk.slot}, {point.manifest.created:%Y-%m-%d %H:%M:%S} UTC",
        disk=reader if overlay is None else overlay,
        writable=overlay,
        block_bytes=repository.grid.chunk_bytes,
    )
    return _Served(export, overlay, kept_as)


def _tcp_server(
    stack: ExitStack, tcp: str, certificates: Path | None, exports: Mapping[str, Export]
) -> tuple[Server, str, str]:
    """The server, and what is before and after a name in URIs."""
    address, colon, port = tcp.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not colon or not address or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError("--tcp", f"{tcp!r} is not an address and a port, such as 127.0.0.1:10809")
    if certificates is None:
        certificates = _temporary(stack)
    else:
        try:
            certificates.mkdir(mode=0o700, parents=True)
        except OSError as err:
            raise ConfigurationError(str(certificates), err.strerror or str(err)) from err
    listening = tcp_socket(address, int(port))
    tls = make_certificates(certificates, address)
    shown = f"[{address}]" if ":" in address else address
    before = f"nbds://{shown}:{listening.getsockname()[1]}/"
    after = f"?tls-certificates={quote(str(absolute(certificates)))}"
    return Server(listening, exports, tls=tls, listed=False), before, after


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hvps-serve-")))
