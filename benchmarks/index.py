"""Measures the chunk index of a client: built from nothing, opened, added to, and looked up in.

Index objects come from a generator, as an encrypted repository has them: 256 chunks of 128 KiB in a pack, 128
packs in an object. Each row runs in a process of its own with all files of the index dropped from the page
cache, under a memory limit that includes the page cache (a control group; without root there is none, and the
table says so).

    python benchmarks/index.py [--tib 1] [--folder FOLDER] [--memory 512MiB] [--first N]

Needs 40 bytes of disk a chunk, 8.4 million chunks a TiB, and half as much again while it is built. 20 TiB
take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index_table import ENTRY_ROW, PACK_ROW, IndexTable, decode_table
from hvpsbridge.formats.pack import HEAD_BYTES
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.chunk_index.files import FolderFiles
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.units import KIB, TIB, parse_size, size_text

CHUNK_BYTES = 128 * KIB
PACK_CHUNKS = 256
OBJECT_PACKS = 128
OBJECT_CHUNKS = PACK_CHUNKS * OBJECT_PACKS
# A night: 500,000 chunks in 20 objects.
NEW_OBJECTS, NEW_CHUNKS = 20, 25_000
BATCH = 1000
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def ids_of(number: int, count: int) -> np.ndarray:
    """Ids of the chunks of an object, 32 bytes each."""
    return np.frombuffer(np.random.default_rng(number).bytes(32 * count), "V32")


def payload_of(number: int, count: int) -> bytes:
    """An index object as it is stored."""
    sizes = np.full(-(-count // PACK_CHUNKS), PACK_CHUNKS)
    sizes[-1] = count - PACK_CHUNKS * (len(sizes) - 1)
    packs, entries = np.zeros(len(sizes), PACK_ROW), np.zeros(count, ENTRY_ROW)
    entries["id"] = ids_of(number, count)
    entries["frame"] = 60 + np.random.default_rng(number).integers(30_000, CHUNK_BYTES, count)
    entries["raw"] = CHUNK_BYTES
    end = 0
    for pack, size in enumerate(sizes.tolist()):
        frames = entries["frame"][end : end + size].astype(np.int64)
        entries["offset"][end : end + size] = HEAD_BYTES + np.cumsum(frames) - frames
        packs["bytes"][pack] = HEAD_BYTES + int(frames.sum())
        end += size
    names = np.random.default_rng((1 << 40) + number).bytes(16 * len(sizes))
    packs["count"], packs["kind"] = sizes, int(Kind.DATA_PACK)
    packs["name"] = np.frombuffer(names, "V16")
    head = np.array([0, len(sizes)], "<u4")
    return head.tobytes() + packs.tobytes() + entries.tobytes()


class Generator:
    """Index objects; how long it took to make them is not of the index."""

    def __init__(self, objects: int, new: int = 0) -> None:
        self._objects, self._new = objects, new
        self.seconds = 0.0

    def index_names(self) -> list[bytes]:
        return [number.to_bytes(16, "big") for number in range(self._objects + self._new)]

    def load_index(self, name: bytes) -> IndexTable:
        number, started = int.from_bytes(name, "big"), time.perf_counter()
        payload = payload_of(number, OBJECT_CHUNKS if number < self._objects else NEW_CHUNKS)
        self.seconds += time.perf_counter() - started
        return decode_table(payload)


def opened(folder: Path) -> ChunkIndex:
    return ChunkIndex(FolderFiles(folder), keyed=True)


def build(folder: Path, objects: int) -> dict[str, object]:
    generator, started = Generator(objects), time.perf_counter()
    cache = IndexCache(folder, generator, keyed=True)
    cache.synchronise()
    cache.close()
    seconds = time.perf_counter() - started - generator.seconds
    chunks = objects * OBJECT_CHUNKS
    stored = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "chunks": chunks,
        "chunks a second": round(chunks / seconds),
        "seconds": round(seconds, 1),
        "CPU seconds with the generator": round(time.process_time(), 1),
        "seconds of the generator": round(generator.seconds, 1),
        "GB read": round(resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512 / 1e9, 1),
        "GB written": round(resource.getrusage(resource.RUSAGE_SELF).ru_oublock * 512 / 1e9, 1),
        "bytes a chunk": round(stored / chunks, 2),
    }


def open_(folder: Path, objects: int) -> dict[str, object]:
    started = time.perf_counter()
    index = opened(folder)
    first = time.perf_counter()
    index.find(bytes(range(32)))
    ended = time.perf_counter()
    runs = sorted((run.rows for run in index.manifest.runs), reverse=True)
    return {
        "seconds": round(first - started, 3),
        "with the first look-up": round(ended - started, 3),
        "rows of runs": runs,
    }


def add(folder: Path, objects: int) -> dict[str, object]:
    generator, started = Generator(objects, NEW_OBJECTS), time.perf_counter()
    cache = IndexCache(folder, generator, keyed=True)
    cache.synchronise()
    cache.close()
    return {"seconds": round(time.perf_counter() - started - generator.seconds, 2)}


def _asked(
    folder: Path, ids: list[bytes], ask: Callable[[ChunkIndex, list[bytes]], int]
) -> dict[str, object]:
    index = opened(folder)
    index.find(bytes(range(32)))  # the filters are read at the first
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    found = sum(ask(index, ids[at : at + BATCH]) for at in range(0, len(ids), BATCH))
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "look-ups a second": round(len(ids) / seconds),
        "found": found,
        "KiB read for each": round((after.ru_inblock - before.ru_inblock) / 2 / len(ids), 2),
    }


def _count(index: ChunkIndex, ids: list[bytes]) -> int:
    return sum(map(bool, index.find_all(ids)))


def _present(objects: int, count: int) -> list[bytes]:
    """Ids from all over the index, in a random order."""
    dice = np.random.default_rng(7)
    numbers = dice.choice(objects, min(objects, 200), replace=False).tolist()
    each = -(-count // len(numbers))
    ids = [
        identity.tobytes()
        for number in numbers
        for identity in dice.choice(ids_of(number, OBJECT_CHUNKS), each, replace=False)
    ]
    dice.shuffle(ids)
    return ids[:count]


def absent(folder: Path, objects: int) -> dict[str, object]:
    data = np.random.default_rng(1 << 40).bytes(32 * 1_000_000)
    return _asked(folder, [data[at : at + 32] for at in range(0, len(data), 32)], _count)


def present(folder: Path, objects: int) -> dict[str, object]:
    return _asked(folder, _present(objects, 100_000), _count)


def one_by_one(folder: Path, objects: int) -> dict[str, object]:
    def ask(index: ChunkIndex, ids: list[bytes]) -> int:
        return sum(bool(index.find(each)) for each in ids)

    return _asked(folder, _present(objects, 20_000), ask)


def neighbours(folder: Path, objects: int) -> dict[str, object]:
    cache = IndexCache(folder, Generator(objects), keyed=True)
    ids = [identity.tobytes() for identity in ids_of(objects // 2, OBJECT_CHUNKS)]
    started = time.perf_counter()
    found = sum(cache.holder(identity, Kind.DATA_PACK, 1) is not None for identity in ids)
    return {
        "look-ups a second": round(len(ids) / (time.perf_counter() - started)),
        "found": found,
        "looked up in all": cache.look_ups,
    }


ROWS = {
    "built from nothing": build,
    "opened": open_,
    "absent ids": absent,
    "present ids": present,
    "present ids, one by one": one_by_one,
    "ids in the order of packs": neighbours,
    "500,000 chunks in 20 objects added": add,
}


@contextlib.contextmanager
def limited(memory: int) -> Iterator[Path | None]:
    """A control group with a memory limit; None where that is not possible."""
    base = next((each for each in GROUPS if (each / "cgroup.procs").exists()), None)
    group = None if base is None else base / f"hvps-index-{os.getpid()}"
    try:
        assert group is not None
        group.mkdir()
        limit = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
        (group / limit).write_text(str(memory))
    except (AssertionError, OSError) as err:
        if group is not None and group.exists():
            group.rmdir()
        print(f"no memory limit: {err or 'no control groups'}", file=sys.stderr)
        yield None
        return
    try:
        yield group
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def dropped(folder: Path) -> None:
    """Drop the files from the page cache."""
    for path in folder.iterdir() if folder.exists() else ():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measured(row: str, folder: Path, objects: int, memory: int) -> dict[str, object]:
    dropped(folder)
    with limited(memory) as group:
        command = [sys.executable, __file__, "--row", row, "--folder", str(folder), "--objects", str(objects)]
        if group is not None:
            command += ["--group", str(group)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if group is not None and (group / name).exists():
                found["of the limit"] = size_text(int((group / name).read_text()))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tib", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory", type=parse_size, default=parse_size("512MiB"))
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--first", type=int, default=len(ROWS), help="only the first rows")
    parser.add_argument("--row")
    parser.add_argument("--objects", type=int)
    parser.add_argument("--group", type=Path)
    options = parser.parse_args()
    if options.row:
        if options.group is not None:
            (options.group / "cgroup.procs").write_text(str(os.getpid()))
        found = ROWS[options.row](options.folder, options.objects)
        found["process"] = size_text(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB)
        print(json.dumps(found))
        return
    objects = max(round(options.tib * TIB / CHUNK_BYTES / OBJECT_CHUNKS), 1)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hvps-index-"))
    try:
        for row in list(ROWS)[: options.first]:
            found = measured(row, folder / "chunks", objects, options.memory)
            print(f"{row}: " + ", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
