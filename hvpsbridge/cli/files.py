"""``hvps files``: single files of a recovery point, without mounting anything. Needs no host, and no root."""

from __future__ import annotations

import fnmatch
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import (
    ExitCode,
    FilesUnreadable,
    HvpsError,
    MachineError,
    TargetExists,
    machine_error,
    worst,
)
from hvpsbridge.filesystems.extract import Extraction, write_content
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.tar import Archive
from hvpsbridge.report.documents.files import FileList, ListedFile, VolumeList, listed
from hvpsbridge.report.views import Table
from hvpsbridge.tasks.files.point_files import PointFiles, Selection, address, open_point, select
from hvpsbridge.units import size_text

_LETTERS = {FileKind.FOLDER: "d", FileKind.SYMLINK: "l", FileKind.FILE: "-", FileKind.OTHER: "?"}


class _Opened:
    """A volume of a point, and what went wrong so far."""

    def __init__(self, point: PointFiles, selection: Selection) -> None:
        self.point = point
        self.volume = point.volume(selection.disk, selection.volume)
        self._codes: list[ExitCode] = []
        self.notices: list[str] = []
        notice = point.files.open(self.volume)
        if notice:
            self.notices.append(notice)
            self._codes.append(ExitCode.DEGRADED)
            console.note(f"hvps: warning: volume {address(point.volumes[self.volume])}: {notice}")

    def entry(self, path: str) -> Entry:
        """The entry at a path of the command line."""
        return self.point.entry(self.volume, os.fsencode(path))

    def below(self, folder: Entry) -> Iterator[Entry]:
        """Everything below a folder."""
        return self.point.files.walk(self.volume, folder, self.report)

    def read(self, entry: Entry) -> Iterator[bytes | int]:
        """Content of a file."""
        return self.point.files.read(self.volume, entry)

    def report(self, err: HvpsError) -> None:
        """Print an error and go on."""
        self.notices.append(str(err))
        self._codes.append(err.code)
        console.note(f"hvps: {err}")

    @property
    def code(self) -> ExitCode:
        """Exit code."""
        return worst(self._codes)


@contextmanager
def _open_point(
    selector: str, options: dict[str, Any], invocation: Invocation
) -> Iterator[tuple[PointFiles, Selection]]:
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        selection = select(repository, selector)
        with open_point(repository, selection.point) as point:
            yield point, selection


@contextmanager
def _open(selector: str, options: dict[str, Any], invocation: Invocation) -> Iterator[_Opened]:
    with _open_point(selector, options, invocation) as (point, selection):
        yield _Opened(point, selection)


@click.group("files")
def files_() -> None:
    """List and read single files of a recovery point.

    POINT[:DISK[:PARTITION]] is a recovery point, the number of a disk, and the number of a partition (0 for
    a disk without partitions) or GROUP/VOLUME for LVM. Both can be left out where there is only one.
    """


@files_.command("ls")
@click.argument("point")
@click.argument("path", required=False)
@repository_options
@json_option
@click.pass_obj
def ls_(invocation: Invocation, /, point: str, path: str | None, as_json: bool, **options: Any) -> ExitCode:
    """List the folder PATH, or the volumes of POINT without a PATH."""
    if path is None:
        return _volumes(invocation, point, as_json, options)
    with _open(point, options, invocation) as opened:
        entry = opened.entry(path)
        entries = [entry]
        if entry.kind is FileKind.FOLDER:
            entries = opened.point.files.children(opened.volume, entry)
        _print(entries, opened, as_json=as_json)
        return opened.code


@files_.command("find")
@click.argument("point")
@click.argument("path", default="/")
@click.option("--name", metavar="PATTERN", default="*", help="Only names that match, as in a shell.")
@repository_options
@json_option
@click.pass_obj
def find_(
    invocation: Invocation, /, point: str, path: str, name: str, as_json: bool, **options: Any
) -> ExitCode:
    """List everything below the folder PATH."""
    with _open(point, options, invocation) as opened:
        pattern = os.fsencode(name)
        found = (
            entry
            for entry in opened.below(opened.entry(path))
            if fnmatch.fnmatchcase(entry.path.rpartition(b"/")[2], pattern)
        )
        _print(found, opened, as_json=as_json)
        return opened.code


@files_.command("get")
@click.argument("point")
@click.argument("path")
@click.option(
    "--to",
    metavar="PATH",
    default=".",
    show_default=True,
    help="Folder or new file to write; - is standard output.",
)
@repository_options
@click.pass_obj
def get_(invocation: Invocation, /, point: str, path: str, to: str, **options: Any) -> ExitCode:
    """Write the file or folder PATH here. Nothing is overwritten.

    A folder is written with everything below it. Times and permission bits are kept, owners are not; use tar
    for these. An entry that cannot be read is named, and the rest is written (exit 2).
    """
    with _open(point, options, invocation) as opened:
        entry = opened.entry(path)
        if to == "-":
            if entry.kind is not FileKind.FILE:
                raise FilesUnreadable(path, "only a file can go to standard output; use tar")
            console.flush()
            with _output_errors("standard output"):
                write_content(opened.read(entry), sys.stdout.buffer.fileno())
            return opened.code
        place = Path(to)
        name = entry.path.rpartition(b"/")[2]
        if place.is_dir() and name:
            place = place / os.fsdecode(name)
        _write(opened, entry, place)
        return opened.code


@files_.command("tar")
@click.argument("point")
@click.argument("path", default="/")
@repository_options
@click.pass_obj
def tar_(invocation: Invocation, /, point: str, path: str, **options: Any) -> ExitCode:
    """Write the folder PATH to standard output as a tar archive, with owners, times, modes and links."""
    if sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; redirect it to a file or a pipe")
    with _open(point, options, invocation) as opened:
        start = opened.entry(path)
        source = start.path if start.kind is FileKind.FOLDER else start.path.rpartition(b"/")[0]
        console.flush()
        with _output_errors("standard output"):
            archive = Archive(sys.stdout.buffer, source)
            for entry in opened.below(start) if start.kind is FileKind.FOLDER else [start]:
                try:
                    archive.add(entry, opened.read(entry))
                except HvpsError as err:
                    opened.report(err)
            archive.close()
            sys.stdout.buffer.flush()
        return opened.code


def _write(opened: _Opened, entry: Entry, place: Path) -> None:
    if entry.kind is not FileKind.FOLDER:
        named = replace(entry, path=b"/" + os.fsencode(place.name))
        if os.path.lexists(place):
            raise TargetExists(str(place))
        # Read by its own path: only its name here differs.
        _extract(opened, [named], b"", place.parent, lambda _: opened.read(entry))
        return
    try:
        place.mkdir()
    except FileExistsError as err:
        raise TargetExists(str(place)) from err
    except OSError as err:
        raise _machine_error(err, str(place)) from err
    _extract(opened, opened.below(entry), entry.path, place, opened.read)


def _extract(
    opened: _Opened,
    entries: Iterable[Entry],
    source: bytes,
    folder: Path,
    read: Callable[[Entry], Iterator[bytes | int]],
) -> None:
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        raise _machine_error(err, str(folder)) from err
    try:
        extraction = Extraction(root, source, read)
        for entry in entries:
            try:
                extraction.add(entry)
            except MachineError as err:
                if err.full:
                    raise
                opened.report(err)
            except HvpsError as err:
                opened.report(err)
        extraction.finish(opened.report)
    finally:
        os.close(root)


@contextmanager
def _output_errors(what: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise _machine_error(err, what) from err


def _machine_error(err: OSError, what: str) -> HvpsError:
    known = machine_error(err, what)
    assert known is not None
    return known


def _volumes(invocation: Invocation, selector: str, as_json: bool, options: dict[str, Any]) -> ExitCode:
    with _open_point(selector, options, invocation) as (point, selection):
        found = tuple(each for each in point.volumes if selection.disk in (None, each.disk))
    if as_json:
        console.document(VolumeList(found))
        return ExitCode.DONE
    rows = tuple(
        (address(each), each.content or "unknown", size_text(each.size_bytes), each.refused or "readable")
        for each in found
    )
    console.table(Table("volumes", ("volume", "content", "size", "files"), rows, right=frozenset({2})))
    return ExitCode.DONE


def _print(entries: Iterable[Entry], opened: _Opened, *, as_json: bool) -> None:
    if as_json:
        files: tuple[ListedFile, ...] = tuple(map(listed, entries))
        console.document(FileList(files, tuple(opened.notices)))
        return
    for entry in entries:
        console.line(_line(entry))


def _line(entry: Entry) -> str:
    mode = _LETTERS[entry.kind] + (stat.filemode(entry.mode)[1:] if entry.mode is not None else "---------")
    owner = "-" if entry.owner is None else f"{entry.owner}:{entry.group}"
    path = shown(entry.path) + (f" -> {shown(entry.target)}" if entry.target else "")
    note = f"  ({entry.refused})" if entry.refused else ""
    return f"{mode} {owner:>11} {entry.size_bytes:>14} {_time(entry.modified_ns)} {path}{note}"


def _time(modified_ns: int | None) -> str:
    try:
        when = datetime.fromtimestamp((modified_ns or 0) / 10**9, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{'-':>16}"
    return f"{'-':>16}" if modified_ns is None else f"{when:%Y-%m-%d %H:%M}"


def shown(path: bytes) -> str:
    """A path with control characters, backslashes and bytes that are not UTF-8 as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
