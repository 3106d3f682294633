"""Stores an image file as a point, as a program of its own: what the chunks of a backup cost without a host.

Prints a JSON document: the short id of the point, and the seconds from the open repository to the point
(``seconds``, and ``cpu_seconds`` of this process).

    python benchmarks/_store.py --repo URL --key-file FILE [--changed FILE] IMAGE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hvpsbridge import __version__
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.repository import Repository, open_repository
from hvpsbridge.repository.points import Point
from hvpsbridge.secret import Secret

VM = UUID(int=1)


def store(repository: Repository, image: Path, changed: list[Extent] | None) -> Point:
    """A new point of the image; with ``changed``, over the newest point."""
    size = image.stat().st_size
    base = None
    if changed is not None:
        base = repository.catalog.points()[-1].disks[0].tree
    touched = repository.grid.touched([Extent(0, size)] if changed is None else changed)
    file = os.open(image, os.O_RDONLY)
    try:
        with repository.begin(uuid4()) as writer:
            disk = writer.disk(size, base)
            for number in touched:
                extent = repository.grid.extent(number, size)
                disk.put(number, os.pread(file, extent.length, extent.offset))
            return writer.commit(_manifest(disk.finish()))
    finally:
        os.close(file)


def _manifest(tree: TreeRoot) -> Manifest:
    disk = ManifestDisk(
        slot="scsi 0:0",
        disk_id=UUID(int=7),
        size_bytes=tree.size_bytes,
        sector_bytes=512,
        path="C:\\vm\\disk.avhdx",
        chain=("C:\\vm\\disk.avhdx", "C:\\vm\\disk.vhdx"),
        tree=tree,
        rct_id=None,
        mode="full",
        reason="first",
    )
    return Manifest(
        point_id=uuid4(),
        vm_id=VM,
        vm_name="benchmark",
        host="hv01",
        run_id=uuid4(),
        created=datetime.now(UTC),
        hvps_version=__version__,
        contract=1,
        consistency_asked="application",
        consistency="application",
        checkpoint_id=uuid4(),
        disks=(disk,),
    )


def main() -> None:
    """Store, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--changed", type=Path, help="JSON: offset and length of each changed extent")
    parser.add_argument("image", type=Path)
    options = parser.parse_args()
    keep_buffers()
    changed = None
    if options.changed is not None:
        changed = [Extent(*pair) for pair in json.loads(options.changed.read_text())]
    with open_repository(options.repo, key=Secret(options.key_file.read_text())) as repository:
        started, cpu = time.monotonic(), time.process_time()
        point = store(repository, options.image, changed)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    print(json.dumps({"point": point.short_id, "seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
