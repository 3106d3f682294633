"""Compares chunk sizes: stores disks with changes at each chunk size and prints what it costs.

Three seeded traces over a disk of 256 MiB, each with increments that change 1 % of its bytes: database
pages (8 KiB, a hot tenth takes most), files written whole (median 32 KiB), and an operating system's small
writes (4 KiB in a few busy regions). Content is half text-like, half incompressible. Everything goes
through the repository's own writer into memory, so compression, nodes, index and framing count.

    python benchmarks/churn_chunks.py [--increments N] [--seed N]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvpsbridge.formats.extents import Extent, normalise, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.repository import Repository
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.units import KIB, MIB, TIB, size_text
from tests.repository.memory_store import MemoryStore

DISK_BYTES = 256 * MIB
USED_SHARE = 0.6
CHURN_SHARE = 0.01
SIZES = (64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, 1024 * KIB)
Trace = Callable[[random.Random], Iterator[Extent]]


def content(dice: random.Random, length: int) -> bytes:
    """Text-like or incompressible bytes, each with a probability of one half."""
    if dice.random() < 0.5:
        return dice.randbytes(length)
    words = [dice.randbytes(6).hex().encode() for _ in range(64)]
    return b" ".join(dice.choices(words, k=length // 13 + 1))[:length].ljust(length, b".")


def database(dice: random.Random) -> Iterator[Extent]:
    pages = int(DISK_BYTES * USED_SHARE) // (8 * KIB)
    while True:
        page = dice.randrange(pages // 10) if dice.random() < 0.8 else dice.randrange(pages)
        yield Extent(page * 8 * KIB, 8 * KIB)


def files(dice: random.Random) -> Iterator[Extent]:
    while True:
        length = max(4 * KIB, int(dice.lognormvariate(10.4, 1.6)) // (4 * KIB) * 4 * KIB)
        start = dice.randrange(int(DISK_BYTES * USED_SHARE) // (4 * KIB)) * 4 * KIB
        yield Extent(start, min(length, 8 * MIB, DISK_BYTES - start))


def system(dice: random.Random) -> Iterator[Extent]:
    regions = [dice.randrange(int(DISK_BYTES * USED_SHARE) // MIB) * MIB for _ in range(12)]
    while True:
        start = dice.choice(regions) + dice.randrange(1024) * 4 * KIB
        yield Extent(min(start, DISK_BYTES - 4 * KIB), 4 * KIB)


TRACES: dict[str, Trace] = {"database": database, "files": files, "system": system}


def first_image(dice: random.Random) -> bytearray:
    image = bytearray(DISK_BYTES)
    for start in range(0, int(DISK_BYTES * USED_SHARE), 64 * KIB):
        image[start : start + 64 * KIB] = content(dice, 64 * KIB)
    return image


def churn(image: bytearray, trace: Iterator[Extent], dice: random.Random) -> tuple[Extent, ...]:
    """Change 1 % of the disk; the changed extents."""
    written: list[Extent] = []
    while total_bytes(written) < DISK_BYTES * CHURN_SHARE:
        extent = next(trace)
        image[extent.offset : extent.end] = content(dice, extent.length)
        written.append(extent)
    return normalise(written, DISK_BYTES)


def stored(store: MemoryStore, prefixes: tuple[str, ...]) -> int:
    return sum(len(data) for name, data in store.objects.items() if name.startswith(prefixes))


def backup(
    repository: Repository, image: bytearray, disk: ManifestDisk | None, numbers: Iterator[int]
) -> ManifestDisk:
    with repository.begin(uuid4()) as writer:
        target = writer.disk(len(image), None if disk is None else disk.tree)
        for number in numbers:
            extent = repository.grid.extent(number, len(image))
            target.put(number, memoryview(image)[extent.offset : extent.end])
        made = ManifestDisk(
            slot="scsi 0:0",
            disk_id=None,
            size_bytes=len(image),
            sector_bytes=512,
            path="",
            chain=(),
            tree=target.finish(),
            rct_id=None,
            mode="",
            reason="",
        )
        writer.commit(
            Manifest(
                point_id=uuid4(),
                vm_id=UUID(int=1),
                vm_name="vm",
                host="h",
                run_id=uuid4(),
                created=datetime.now(UTC),
                hvps_version="",
                contract=1,
                consistency_asked="",
                consistency="",
                checkpoint_id=None,
                disks=(made,),
            )
        )
    return made


def measure(name: str, chunk_bytes: int, increments: int, seed: int) -> None:
    dice = random.Random(f"{seed} {name}")
    image = first_image(dice)
    trace = TRACES[name](dice)
    store = MemoryStore()
    with create_on_store(store, ChunkGrid(chunk_bytes)) as repository:
        started = time.process_time()
        disk = backup(repository, image, None, iter(range(repository.grid.count(len(image)))))
        full_seconds = time.process_time() - started
        full = stored(store, ("data/", "nodes/", "index/"))
        changed_bytes = 0
        started = time.process_time()
        for _ in range(increments):
            changed = churn(image, trace, dice)
            changed_bytes += total_bytes(changed)
            disk = backup(repository, image, disk, repository.grid.touched(changed))
        increment_seconds = (time.process_time() - started) / increments
        grown = stored(store, ("data/", "nodes/", "index/")) - full
        structure = stored(store, ("nodes/", "index/")) / stored(store, ("data/",))
        rows = TIB // chunk_bytes
    month = full + grown / increments * 30
    print(
        f"{name:9} {size_text(chunk_bytes):>8} {size_text(full):>10} {size_text(grown // increments):>10}"
        f" {grown / changed_bytes:7.2f} {size_text(int(month)):>10} {structure:8.2%}"
        f" {rows / 1e6:8.1f} {full_seconds:7.2f} {increment_seconds:7.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--increments", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"disk {size_text(DISK_BYTES)}, {options.increments} increments of 1 %, seed {options.seed}")
    print("trace        chunk       full  increment  x bytes   30 nights  struct.  M ids/TiB  full s  incr s")
    for name in TRACES:
        for chunk_bytes in SIZES:
            measure(name, chunk_bytes, options.increments, options.seed)


if __name__ == "__main__":
    main()
