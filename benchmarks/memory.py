"""Measures the memory of commands that read large things: at most 256 MiB each, processes below it included.

- ``hvps diff`` of two points of an ext4 with ``--files`` files, of which a few changed, or all. Filling it
  needs root and loop devices.
- ``hvps mount`` of a sparse disk: all of its data is read through the raw image, the VHDX and the partition.
- ``hvps restore --to hyperv:`` of the sparse disk to a simulated host in another process.

    python benchmarks/memory.py [--files 300000] [--sparse 4TiB] [--data 2GiB] [--only diff|mount|upload]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import _disks
from benchmarks._processes import HVPS, PeakMemory, background
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import Repository, create_repository, open_repository
from hvpsbridge.repository.writer import Writer
from hvpsbridge.units import KIB, MIB, parse_size, size_text
from tests.filesystems import images
from tests.repository.conftest import disk_of, manifest_of

LIMIT_BYTES = 256 * MIB
PER_FOLDER = 1000
PASSWORD = "HVPS_PASSWORD"
HOST = ("--user", "backup", "--auth", "basic", "--password-env", PASSWORD)


@dataclass(frozen=True, slots=True)
class Row:
    """What a command took."""

    name: str
    seconds: float
    peak_bytes: int


def run(name: str, *arguments: str | Path) -> Row:
    """Run a command whose output nobody reads."""
    started = time.monotonic()
    process = subprocess.Popen([*HVPS, *map(str, arguments)], stdout=subprocess.DEVNULL)
    memory = PeakMemory(process.pid)
    code = process.wait()
    if code not in (0, 3, 6):
        raise SystemExit(f"{arguments} ended with {code}")
    return Row(name, time.monotonic() - started, memory.stop())


def store(repository: Repository, image: Path) -> None:
    """The data of an image as a point."""
    with repository.begin(uuid4()) as writer:
        writer.commit(manifest_of([disk_of(store_disk(writer, repository.grid.chunk_bytes, image))]))


def store_disk(writer: Writer, chunk_bytes: int, image: Path) -> TreeRoot:
    """The data of an image as a disk of a point."""
    with image.open("rb") as file:
        disk = writer.disk(image.stat().st_size, None)
        for number in numbers(file.fileno(), chunk_bytes):
            file.seek(number * chunk_bytes)
            content = file.read(chunk_bytes)
            if content.strip(b"\0"):
                disk.put(number, content)
        return disk.finish()


def numbers(file: int, chunk_bytes: int) -> Iterator[int]:
    """Chunks that are not holes."""
    at, end, last = 0, os.fstat(file).st_size, -1
    while at < end:
        try:
            start = os.lseek(file, at, os.SEEK_DATA)
        except OSError:  # only a hole follows
            return
        at = os.lseek(file, start, os.SEEK_HOLE)
        for number in range(max(start // chunk_bytes, last + 1), -(-at // chunk_bytes)):
            yield number
            last = number


def diffs(folder: Path, files: int) -> Iterator[Row]:
    """Differences of file systems with many files, in folders and all in one."""
    place = folder / "ext4-mounted"
    place.mkdir()
    # The Sleuth Kit takes a time that grows with the square of the entries of a folder.
    tenth = files // 10
    for layout, count, per_folder in (
        ("files in folders of 1,000", files, PER_FOLDER),
        ("files in one folder", tenth, tenth),
    ):
        image = images.empty(folder / "ext4", 4 * count * KIB + 256 * MIB)
        images.tool("mke2fs", "-q", "-t", "ext4", "-i", "4096", "-O", "^has_journal", image)
        images.tool("mount", "-o", "loop", image, place)
        try:
            for number in range(count):
                inner = place / f"folder{number // per_folder}"
                if not number % per_folder:
                    inner.mkdir()
                (inner / f"file {number} of a folder.dat").touch()
        finally:
            images.tool("umount", place)
        with create_repository(str(folder / "repo")) as repository:
            store(repository, image)
            names = [
                f'"/folder{number * 3}/file {number * 3 * per_folder} of a folder.dat"' for number in range(3)
            ]
            script = "".join(
                f"set_inode_field {name} mode 0100600\n" for name in names[: count // per_folder]
            )
            images.tool("debugfs", "-w", "-f", "/dev/stdin", image, text=script)
            store(repository, image)
            other = images.empty(folder / "other", image.stat().st_size)
            images.tool("mke2fs", "-q", "-t", "ext4", "-i", "4096", other)
            store(repository, other)
        at = ("--repo", folder / "repo")
        yield run(f"diff, {count} {layout}, few changed", "diff", "web@latest~2", "web@latest~1", *at)
        yield run(f"diff, {count} {layout}, all removed", "diff", "web@latest~1", "web@latest", *at)
        yield run(f"diff --json, {count} {layout}, all", "diff", "web@latest~1", "web@latest", "--json", *at)
        for each in ("ext4", "other"):
            (folder / each).unlink()
        subprocess.run(["rm", "-rf", folder / "repo"], check=True)


def sparse(folder: Path, size_bytes: int, data_bytes: int) -> Path:
    """A repository with a sparse disk, whose data is in MiB at even distances."""
    disk = folder / "disk"
    _disks.sparse(disk, size_bytes, data_bytes, seed=1)
    with create_repository(str(folder / "sparse")) as repository:
        store(repository, disk)
    return folder / "sparse"


def mounted(folder: Path, repository: Path, size_bytes: int, data_bytes: int) -> Iterator[Row]:
    """All data of a mounted disk, read as an image and as a VHDX."""
    place = folder / "mounted"
    place.mkdir()
    process = subprocess.Popen(
        [*HVPS, "mount", "web", place, "--repo", repository], stdout=subprocess.DEVNULL
    )
    memory = PeakMemory(process.pid)
    started = time.monotonic()
    while not place.is_mount():
        if process.poll() is not None or time.monotonic() - started > 120:
            raise SystemExit("the mount did not come")
        time.sleep(0.05)
    mounting = time.monotonic() - started
    islands = data_bytes // MIB
    try:
        with (place / "scsi-0-0.raw").open("rb") as file:
            for number in range(islands):
                file.seek(size_bytes // islands * number // MIB * MIB)
                assert file.read(MIB).strip(b"\0")
        # Its tables and blocks come first; the rest of a sparse file is zeros that nobody stores.
        with (place / "scsi-0-0.vhdx").open("rb") as file:
            for _ in range(data_bytes // MIB):
                file.read(MIB)
    finally:
        seconds = time.monotonic() - started
        peak = memory.stop()
        process.send_signal(signal.SIGTERM)
        process.wait()
    yield Row(f"mount of {size_text(size_bytes)} (ready in {mounting:.1f} s)", seconds, peak)


def uploaded(folder: Path, engine: str) -> Iterator[Row]:
    """A restore to a simulated host, of the sparse disk with the definition of a small VM."""
    host, place = folder / "hyper-v", folder / "uploaded"
    serving = ("--folder", host, "--engine", engine, "--password-env", PASSWORD, "--json")
    os.environ[PASSWORD] = "benchmark"
    with background("sim", "serve", *map(str, serving), log=folder / "hyper-v.log") as (_, facts):
        url = str(facts["url"])
        run("import", "sim", "import", "vm", images.empty(folder / "small", MIB), "--folder", host)
        run("init", "repo", "init", place, "--plain")
        run("backup", "backup", url, "vm", "--repo", place, *HOST)
        with open_repository(str(place)) as repository:
            known = repository.catalog.find_point("vm").manifest
            with repository.begin(uuid4()) as writer:
                tree = store_disk(writer, repository.grid.chunk_bytes, folder / "disk")
                disk = replace(known.disks[0], tree=tree, size_bytes=tree.size_bytes)
                created = known.created + timedelta(hours=1)
                writer.commit(replace(known, point_id=uuid4(), disks=(disk,), created=created))
        restore = ("restore", "vm@latest", "--to", f"hyperv:{url}", "--name", "copy", "--repo", place)
        yield run(f"restore --to hyperv: ({engine})", *restore, *HOST)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--sparse", default="4TiB", help="size of the sparse disk")
    parser.add_argument("--data", default="2GiB", help="data on the sparse disk")
    parser.add_argument("--engine", choices=("builtin", "powershell"), default="builtin")
    parser.add_argument("--only", choices=("diff", "mount", "upload"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    size, data = parse_size(options.sparse), parse_size(options.data)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        parts: list[Callable[[], Iterator[Row]]] = []
        if options.only in (None, "diff"):
            parts.append(lambda: diffs(folder, options.files))
        if options.only != "diff":
            repository = sparse(folder, size, data)
        if options.only in (None, "mount"):
            parts.append(lambda: mounted(folder, repository, size, data))
        if options.only in (None, "upload"):
            parts.append(lambda: uploaded(folder, options.engine))
        for part in parts:
            for row in part():
                verdict = "yes" if row.peak_bytes <= LIMIT_BYTES else "NO"
                peak = f"{row.peak_bytes // MIB:5} MiB, at most {LIMIT_BYTES // MIB}"
                print(f"{row.name:60} {row.seconds:7.1f} s {peak}: {verdict}")


if __name__ == "__main__":
    main()
