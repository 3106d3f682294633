"""Storing, increments, restoring and checking, beside restic and borg: whole commands in one run.

The image of ``--mib`` has an ext4 full of files of ``--source`` (more than half of the image), a fifth of
random data, and zeros. Each tool has an encrypted local repository and its defaults otherwise. Nothing in
hvps stores an image file without a host, so its rows are a program that does what a backup does with chunks
(``_store.py``). It is told which parts changed in an increment, as by a host; the others read everything.
The image and what was stored are in the page cache, except in rows that say cold.

    python benchmarks/repository.py [--mib 4096] [--rounds 1] [--folder /var/tmp] [--source /usr]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._peers import Peers, Row, in_turn, print_rows, quietly, versions
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.node import FAN_OUT, NODE_BYTES
from hvpsbridge.repository import compression
from hvpsbridge.repository.opening import DEFAULT_CHUNK_BYTES
from hvpsbridge.units import KIB, MIB

# Shares of the image. The file system keeps a tenth for itself.
FILES, FILE_SYSTEM, RANDOM = 0.55, 0.65, 0.2
CHURN = 0.005
CLUSTERS = 4
PIECE_BYTES = 4 * KIB
# At the end of the names of rows that leave out the start of Python and the key.
API = " (API)"


def gather(source: Path, target: Path, wanted_bytes: int) -> int:
    """Copy regular files until there are enough; how many bytes that are."""
    target.mkdir()
    copied = 0
    for number, path in enumerate(_files(source)):
        if copied >= wanted_bytes:
            break
        folder = target / f"{number // 1000:04}"
        folder.mkdir(exist_ok=True)
        copied += shutil.copyfile(path, folder / f"{number}-{path.name}").stat().st_size
    return copied


def _files(source: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                yield path


def make_image(raw: Path, mib: int, source: Path) -> int:
    """Write the image; how many bytes of files are in it."""
    packed = raw.with_name("files")
    copied = gather(source, packed, int(mib * FILES) * MIB)
    part_mib = int(mib * FILE_SYSTEM)
    quietly("mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", packed, raw, f"{part_mib}M")
    shutil.rmtree(packed)
    chance = random.Random(1)
    with raw.open("r+b") as file:
        file.truncate(mib * MIB)
        for at in range(part_mib, part_mib + int(mib * RANDOM)):
            file.seek(at * MIB)
            file.write(chance.randbytes(MIB))
    quietly("sync", "-f", raw)
    return copied


def clustered(size_bytes: int) -> list[Extent]:
    """A few places where all changes are."""
    chance = random.Random(2)
    length = int(size_bytes * CHURN / CLUSTERS) // PIECE_BYTES * PIECE_BYTES
    step = size_bytes // CLUSTERS
    return [
        Extent(number * step + chance.randrange((step - length) // PIECE_BYTES) * PIECE_BYTES, length)
        for number in range(CLUSTERS)
    ]


def scattered(size_bytes: int) -> list[Extent]:
    """Changes of 4 KiB anywhere."""
    pieces = size_bytes // PIECE_BYTES
    numbers = sorted(random.Random(3).sample(range(pieces), int(pieces * CHURN)))
    return [Extent(number * PIECE_BYTES, PIECE_BYTES) for number in numbers]


def change(raw: Path, extents: Iterable[Extent]) -> Path:
    """Write new data, half of it random, into an image; the file that names the extents."""
    chance = random.Random(4)
    pairs = []
    with raw.open("r+b") as file:
        for extent in extents:
            file.seek(extent.offset)
            half = extent.length // 2
            file.write(chance.randbytes(half) + b"changed " * (half // 8))
            pairs.append((extent.offset, extent.length))
    quietly("sync", "-f", raw)
    told = raw.with_name("changed")
    told.write_text(json.dumps(pairs))
    return told


def least_stored(raw: Path, extents: list[Extent]) -> int:
    """Bytes of the changed chunks, compressed one by one, and of the changed nodes."""
    numbers = {
        number
        for extent in extents
        for number in range(extent.offset // DEFAULT_CHUNK_BYTES, (extent.end - 1) // DEFAULT_CHUNK_BYTES + 1)
    }
    stored = 0
    with raw.open("rb") as file:
        for number in sorted(numbers):
            file.seek(number * DEFAULT_CHUNK_BYTES)
            _, body = compression.compress(file.read(DEFAULT_CHUNK_BYTES), compression.DEFAULT_LEVEL)
            stored += len(body)
    while len(numbers) > 1:
        numbers = {number // FAN_OUT for number in numbers}
        stored += len(numbers) * NODE_BYTES
    return stored


def judged(rows: dict[str, Row], least: dict[str, int]) -> Iterator[tuple[str, float, float]]:
    """What is to be reached, what is, and what must be; all are at least."""

    def fastest(suffix: str, *names: str) -> float | None:
        return min((rows[name + suffix].median for name in names if name + suffix in rows), default=None)

    checks = ("restic check --read-data", "borg check --verify-data")
    stores = ("restic backup", "borg create")
    restores = ("restic restore", "borg extract --sparse")
    for what, own, suffix, names, times in (
        ("store", "hvps store", "", stores, 2.5),
        ("store, API", "hvps store", API, stores, 2.5),
        ("increment, clustered", "hvps store", ", clustered", stores, 40),
        ("increment, clustered, API", "hvps store", f", clustered{API}", stores, 40),
        ("increment, random", "hvps store", ", random", stores, 10),
        ("increment, random, API", "hvps store", f", random{API}", stores, 10),
        ("restore", "hvps restore", "", restores, 1),
        ("restore, cold", "hvps restore", ", cold", restores, 1),
        ("verify", "hvps verify --level hashed", "", checks, 2.5),
    ):
        peer = fastest(suffix.removesuffix(API), *names)
        if peer is not None:
            yield f"{what}, times the faster peer", peer / rows[own + suffix].median, times
    for suffix, needed in least.items():
        stored = rows[f"hvps store{suffix}"].stored_bytes
        assert stored is not None  # stores count it
        yield f"changed chunks and nodes / stored{suffix}", needed / stored, 1 / 1.2


def main() -> None:
    """Make the image, run all rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=4096, help="size of the image")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each row, the tools in turn")
    parser.add_argument("--folder", type=Path, help="where repositories and targets are")
    parser.add_argument("--source", type=Path, default=Path("/usr"), help="where files are taken from")
    options = parser.parse_args()
    size_bytes = options.mib * MIB
    rows: dict[str, Row] = {}
    least: dict[str, int] = {}
    api: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix=f"hvps-{uuid4().hex[:6]}-", dir=options.folder) as name:
        folder = Path(name)
        # Caches of the tools, which are new for each run.
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        os.environ["BORG_BASE_DIR"] = f"{folder}/borg-home"
        raw = folder / "disk.raw"
        files_bytes = make_image(raw, options.mib, options.source)
        for turn in range(options.rounds):
            peers = Peers(folder / f"round-{turn}", api=api)
            peers.create()
            in_turn(list(peers.stores(raw)), 1, rows)
            for suffix, places in ((", clustered", clustered), (", random", scattered)):
                extents = places(size_bytes)
                told = change(raw, extents)
                least[suffix] = least_stored(raw, extents)
                in_turn(_named(peers.stores(raw, told), suffix), 1, rows)
            in_turn(list(peers.restores()), 1, rows)
            in_turn(list(peers.restores(cold=True)), 1, rows)
            in_turn(list(peers.verifies()), 1, rows)
            shutil.rmtree(peers.folder)
    print(
        f"image of {options.mib} MiB, {files_bytes / size_bytes:.0%} files of {options.source}, "
        f"{options.rounds} rounds, encrypted, warm page cache unless it says cold; {versions()}; "
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
    )
    rows |= {row.name: row for row in api.values()}
    print_rows(list(rows.values()), size_bytes)
    for wanted, reached, needed in judged(rows, least):
        print(f"{wanted:46} {reached:7.2f}, to reach {needed:6.2f}: {'yes' if reached >= needed else 'NO'}")
    most = max((row for row in rows.values() if "hvps" in row.name), key=lambda row: row.peak_bytes)
    verdict = "yes" if most.peak_bytes < 256 * MIB else "NO"
    print(f"{'memory of hvps, at most 256 MiB':46} {most.peak_bytes // MIB:7}, {most.name}: {verdict}")


def _named(
    group: Iterator[tuple[str, Callable[[Row], None]]], suffix: str
) -> list[tuple[str, Callable[[Row], None]]]:
    return [(name + suffix, work) for name, work in group]


if __name__ == "__main__":
    main()
