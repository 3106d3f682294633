"""Measures how a collect marks what points need. Each point of a VM changes 1 % of its chunks.

Half of the changes are random, the others follow each other. Index objects and trees are real, in an
encrypted local repository; packs of chunks are only listed, since marking reads none.

    python benchmarks/marking.py [--gib 40] [--vms 1] [--points 20] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.formats.manifest import Manifest
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.pack import HEAD_BYTES, PackEntry
from hvpsbridge.repository import Repository, create_repository, open_repository
from hvpsbridge.repository.collect.marking import Marks
from hvpsbridge.repository.index_objects import publish_index
from hvpsbridge.units import GIB, KIB, size_text
from tests.repository.conftest import CHEAP, KEY, disk_of, manifest_of

CHUNK_BYTES = 128 * KIB
PACK_CHUNKS, OBJECT_PACKS = 256, 128
FRAME_BYTES = 90_000


def publish(repository: Repository, ids: list[bytes]) -> None:
    """List chunks as stored, in their order."""
    packs = []
    for start in range(0, len(ids), PACK_CHUNKS):
        some = ids[start : start + PACK_CHUNKS]
        entries = tuple(
            PackEntry(identity, HEAD_BYTES + at * FRAME_BYTES, FRAME_BYTES, CHUNK_BYTES)
            for at, identity in enumerate(some)
        )
        size = HEAD_BYTES + len(some) * FRAME_BYTES
        packs.append(IndexedPack(random.randbytes(16), Kind.DATA_PACK, size, entries))
    for start in range(0, len(packs), OBJECT_PACKS):
        publish_index(repository._objects, IndexObject((), tuple(packs[start : start + OBJECT_PACKS])))


def changed(chunks: int) -> list[int]:
    """Numbers of 1 % of the chunks: half of them anywhere, half in runs of 64."""
    half = chunks // 200
    numbers = set(random.sample(range(chunks), half))
    while len(numbers) < 2 * half:
        start = random.randrange(max(chunks - 64, 1))
        numbers.update(range(start, min(start + 64, chunks)))
    return sorted(numbers)


def history(repository: Repository, gib: float, points: int) -> list[Manifest]:
    """Manifests of a VM."""
    size, vm, tree = int(gib * GIB), uuid4(), None
    chunks, found = repository.grid.count(size), []
    for sequence in range(points):
        numbers = list(range(chunks)) if tree is None else changed(chunks)
        ids = [random.randbytes(32) for _ in numbers]
        publish(repository, ids)
        with repository.begin(uuid4()) as writer:
            builder, _ = writer.tree(tree)
            for number, identity in zip(numbers, ids, strict=True):
                builder.put(number, identity)
            tree = builder.finish(chunks, size)
            writer.flush()
        disk = disk_of(TreeRoot(tree.root, size))
        found.append(manifest_of([disk], vm_id=vm, sequence=sequence))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=40)
    parser.add_argument("--vms", type=int, default=1)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hvps-marking-"))
    try:
        url, cache = str(folder / "repository"), folder / "cache"
        with create_repository(
            url, chunk_bytes=CHUNK_BYTES, key=KEY, cost=CHEAP, cache_folder=cache
        ) as repository:
            manifests = [
                manifest
                for _ in range(options.vms)
                for manifest in history(repository, options.gib, options.points)
            ]
        with open_repository(url, key=KEY, cache_folder=cache) as repository:
            started, used = time.perf_counter(), time.process_time()
            marks = Marks(repository._cache, repository._frames, repository.grid, (), (), ())
            marks.add(manifests)
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            entries = repository._cache.highest_number() + 1
            set_bits = sum(byte.bit_count() for byte in marks.copy())
            nodes = sum(
                len(repository._cache.pack_entries(pack.number))
                for pack in repository._cache.packs()
                if pack.kind is Kind.NODE_PACK
            )
        memory = size_text(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
        print(f"{seconds:.1f} s, {cpu:.1f} CPU s, {1e6 * cpu / nodes:.0f} CPU us a node, {memory}")
        print(f"{set_bits} of {entries} entries marked, {nodes} of them nodes")
        print(f"{repository._cache.look_ups} look-ups in the whole index")
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
