"""Measures ``hvps files get`` of a 1 MB file out of an NTFS of 10,000 files: seconds, and MB read.

The NTFS is made by mkntfs and filled through ntfs-3g, which needs root and /dev/fuse. The repository is
encrypted and on the local disk; its files are in the page cache. Bytes are counted by reading the same file
once more in this process.

    python benchmarks/files.py [--files N] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvpsbridge.repository import Repository, create_repository
from hvpsbridge.tasks.files.point_files import open_point
from hvpsbridge.units import GIB
from tests.filesystems import images
from tests.repository.conftest import KEY, disk_of, manifest_of

WANTED = "folder7/wanted.bin"
MB = 1_000_000


def fill(image: Path, folder: Path, count: int) -> None:
    """An NTFS with that many files of 4 to 40 KB in folders of 1,000, and one of 1 MB."""
    images.tool("mkntfs", "-q", "-F", "-f", images.empty(image, 2 * GIB))
    folder.mkdir()
    images.tool("ntfs-3g", image, folder)
    chance = random.Random(1)
    try:
        for number in range(count):
            inner = folder / f"folder{number // 1000}"
            inner.mkdir(exist_ok=True)
            (inner / f"file {number} of a folder.dat").write_bytes(
                chance.randbytes(chance.randint(4000, 40000))
            )
        (folder / WANTED).write_bytes(chance.randbytes(MB))
    finally:
        images.tool("umount", folder)


def read_so_far() -> int:
    """Bytes that this process read from files and sockets."""
    text = Path("/proc/self/io").read_text()
    return int(text.partition("rchar: ")[2].split()[0])


def store(repository: Repository, image: Path) -> None:
    """The image as a point."""
    size = image.stat().st_size
    with repository.begin(uuid4()) as writer, image.open("rb") as file:
        disk = writer.disk(size, None)
        for number in range(repository.grid.count(size)):
            disk.put(number, file.read(repository.grid.chunk_bytes))
        writer.commit(manifest_of([disk_of(disk.finish())]))


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "ntfs", folder / "mount", options.files)
        repository = create_repository(str(folder / "repo"), key=KEY)
        store(repository, folder / "ntfs")
        before = read_so_far()
        with open_point(repository, repository.catalog.find_point("web")) as point:
            point.files.open(0)
            content = b"".join(map(bytes, point.files.read(0, point.entry(0, b"/" + WANTED.encode()))))
            disk_mb = point.files.read_bytes / MB
        repository_mb = (read_so_far() - before) / MB
        assert len(content) == MB
        (folder / "key").write_text(KEY.reveal())
        (folder / "key").chmod(0o600)
        seconds = []
        for round_ in range(options.rounds):
            target = folder / f"got{round_}"
            command = ["files", "get", "web", f"/{WANTED}", "--to", target]
            began = time.perf_counter()
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "hvpsbridge",
                    *command,
                    "--repo",
                    folder / "repo",
                    "--key-file",
                    folder / "key",
                ],
                check=True,
                env=os.environ,
            )
            seconds.append(time.perf_counter() - began)
            assert target.read_bytes() == content
        print(
            f"files get of 1 MB out of an NTFS of {options.files} files: "
            f"{statistics.median(seconds):.2f} s (median of {options.rounds}; {min(seconds):.2f} to "
            f"{max(seconds):.2f}), {repository_mb:.1f} MB of the repository and "
            f"{disk_mb:.1f} MB of the disk read"
        )


if __name__ == "__main__":
    main()
