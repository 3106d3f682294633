"""The manifest of a chunk index: which files count, and how much of each."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hvpsbridge.repository.chunk_index.files import Files, write_all
from hvpsbridge.repository.chunk_index.runs import RunInfo

VERSION = 1
NAME = "manifest"
_NEW = "manifest.new"
# Files that only grow: rows of entries in the order of packs, the rest of their ids in plain repositories,
# places of frames that do not follow from those before, packs, and which index object lists which pack.
TABLES = ("entries", "tails", "odd", "packs", "listings")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a file counts.

    Attributes:
        rows: how many.
        crc: CRC-32 of them.
    """

    rows: int = 0
    crc: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An index object. Its place in the manifest is its number.

    Attributes:
        name: hex; empty if it is gone.
        supersedes: names of index objects that it supersedes, hex.
    """

    name: str
    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What counts.

    Attributes:
        keyed: whether ids are keyed, so that 16 bytes of them are enough.
        epoch: changes when entries or packs get other numbers; part of the names of tables.
        serial: changes with each manifest; part of the names of runs.
        tables: of each table, how much counts.
        runs: the runs, in any order.
        sources: index objects.
    """

    keyed: bool
    epoch: int = 1
    serial: int = 0
    tables: dict[str, Extent] = field(default_factory=lambda: dict.fromkeys(TABLES, Extent()))
    runs: tuple[RunInfo, ...] = ()
    sources: tuple[Source, ...] = ()

    def table_name(self, table: str) -> str:
        """Name of a table's file."""
        return f"{table}-{self.epoch}"

    @property
    def file_names(self) -> frozenset[str]:
        """Names of all files that count."""
        return frozenset({*map(self.table_name, TABLES), *(run.name for run in self.runs)})

    def numbers_of(self, names: frozenset[bytes] | set[bytes]) -> list[int]:
        """Numbers of the index objects of these names."""
        wanted = {name.hex() for name in names}
        return [number for number, source in enumerate(self.sources) if source.name in wanted]

    def without(self, numbers: list[int]) -> Manifest:
        """The same without these index objects."""
        sources = list(self.sources)
        for number in numbers:
            sources[number] = Source(name="")
        return replace(self, sources=tuple(sources))


def encode(manifest: Manifest) -> bytes:
    """The file's bytes: a checksum, then JSON."""
    fields = {
        "version": VERSION,
        "keyed": manifest.keyed,
        "epoch": manifest.epoch,
        "serial": manifest.serial,
        "tables": {name: [extent.rows, extent.crc] for name, extent in manifest.tables.items()},
        "runs": [asdict(run) for run in manifest.runs],
        "sources": [[source.name, *source.supersedes] for source in manifest.sources],
    }
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"%08x\n" % zlib.crc32(text) + text


def decode(data: bytes) -> Manifest:
    """The manifest in a file's bytes.

    Raises:
        ValueError: this hvps did not write them.
    """
    if len(data) < 9 or data[:9] != b"%08x\n" % zlib.crc32(data[9:]):
        raise ValueError("its checksum does not match")
    fields: dict[str, Any] = json.loads(data[9:])
    if fields["version"] != VERSION:
        raise ValueError("another version of hvps wrote it")
    return Manifest(
        keyed=fields["keyed"],
        epoch=fields["epoch"],
        serial=fields["serial"],
        tables={name: Extent(*fields["tables"][name]) for name in TABLES},
        runs=tuple(RunInfo(**run) for run in fields["runs"]),
        sources=tuple(Source(name=name, supersedes=tuple(old)) for name, *old in fields["sources"]),
    )


def load(files: Files) -> Manifest | None:
    """The manifest; None if there is none.

    Raises:
        ValueError: it is not what hvps wrote.
        OSError: it cannot be read.
    """
    try:
        descriptor = files.read(NAME)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return decode(file.read())


def publish(files: Files, manifest: Manifest) -> None:
    """Replace the manifest, durably. What it names must be durable."""
    descriptor = files.create(_NEW)
    try:
        write_all(descriptor, encode(manifest), 0)
        files.sync(descriptor)
    finally:
        os.close(descriptor)
    files.rename(_NEW, NAME)
