"""How the golden repositories were made, once. No test runs this, and it replaces nothing.

    python tests/golden/make.py FORMAT

A golden repository is the promise that what users wrote with a released format stays readable. When the
format changes, a new pair is made beside the old ones.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.keyslot import KdfCost
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import DiskStats, Manifest, ManifestDisk, Proof
from hvpsbridge.formats.marks import Tombstone, Tombstones
from hvpsbridge.repository import Point, Repository, create_repository, current_holder
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB

HERE = Path(__file__).parent
CHUNK = 64 * KIB
PASSPHRASE = "golden passphrase"
START = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
VM = UUID("11111111-2222-3333-4444-555555555555")


def disk_content(version: int, chunks: int, tail: int) -> bytes:
    """Text, noise and zeros over more than one leaf; each version changes a little."""
    dice = random.Random(7)
    content = bytearray(chunks * CHUNK + tail)
    content[: 3 * CHUNK] = (b"the quick brown fox " * CHUNK)[: 3 * CHUNK]
    content[5 * CHUNK + 100 : 5 * CHUNK + 40100] = dice.randbytes(40000)
    content[-tail - 10 :] = dice.randbytes(tail + 10)
    for number in range(version):
        content[2 * CHUNK + number] ^= 0xFF
        content[(chunks - 1) * CHUNK + number] ^= 0xFF
    return bytes(content)


def commit(repository: Repository, version: int, base: Point | None) -> Point:
    holder = current_holder(run := uuid4())
    created = START + timedelta(days=version)
    with repository.lease(VM, holder), repository.begin(run) as writer:
        disks = []
        for index, (chunks, tail) in enumerate(((300, 1536), (4, 512))):
            content = disk_content(version, chunks, tail)
            root = None if base is None else base.disks[index].tree
            target = writer.disk(len(content), root)
            for number in range(repository.grid.count(len(content))):
                target.put(number, content[number * CHUNK : (number + 1) * CHUNK])
            disks.append(
                ManifestDisk(
                    slot=f"scsi 0:{index}",
                    disk_id=UUID(int=index + 1),
                    size_bytes=len(content),
                    sector_bytes=512,
                    path=f"D:\\vm\\disk{index}.avhdx",
                    chain=(f"D:\\vm\\disk{index}.avhdx", f"D:\\vm\\disk{index}.vhdx"),
                    tree=target.finish(),
                    rct_id=f"rctX:{version}:{index}",
                    mode="full" if base is None else "incremental",
                    reason="first" if base is None else "tracked",
                    base=None if base is None else base.point_id,
                    stats=DiskStats(changed_bytes=len(content), seconds=1.5),
                    proof=Proof("equal", created, len(content), run),
                )
            )
        files = (
            writer.file("vm.vmcx", [b"configuration " * 9000, b"end"]),
            writer.file("vm.vmrs", [b""]),
        )
        point = writer.commit(
            Manifest(
                point_id=uuid4(),
                vm_id=VM,
                vm_name="gold 'n' ☃",
                host="hv01",
                run_id=run,
                created=created,
                hvps_version="1.0",
                contract=1,
                consistency_asked="application",
                consistency="application",
                checkpoint_id=uuid4(),
                disks=tuple(disks),
                files=files,
                definition='{"Generation":2}',
                os_build=20348,
            )
        )
        entry = LedgerEntry(
            kind=LedgerKind.SETTLED, run_id=run, vm_id=VM, host="hv01", at=created, point_id=point.point_id
        )
        repository.ledger(VM).append(entry)
    ids = tuple(DiskIds(disk.slot, disk.disk_id, disk.rct_id or "") for disk in point.disks)
    repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), VM, f"RP:{version}", ids))
    return point


def add_what_format_2_has(repository: Repository, newest: Point) -> None:
    """Tags, protection, a pruned point and its doomed list, merged tombstones, a fence."""
    objects, pruner = repository._objects, repository.pruner
    pruner.tag(newest, add=["before upgrade", "monthly"])
    pruner.tag(newest, remove=["monthly"])
    pruner.protect(newest)
    assert pruner.prune([newest]) == (newest,)
    last = commit(repository, 3, newest)
    pruner.prune([last])
    repository.collect(uuid4(), CollectOptions())
    tomb = Tombstone(point_id=uuid4(), vm_id=uuid4(), sequence=1, digest=bytes(32), previous=None, at=START)
    objects.write_record(f"pruned/{uuid4().hex}", Kind.TOMBSTONES, Tombstones(tombstones=(tomb,)))
    dead = uuid4()
    repository.catalog.fences.begin(dead)
    repository.catalog.fences.complete(dead, frozenset())


def make(name: str, key: Secret | None, folder: Path) -> None:
    target = HERE / f"{name}.tar.gz"
    if target.exists():
        raise SystemExit(f"{target} exists and stays as it is")
    expected: dict[str, object] = {}
    with create_repository(
        str(folder / name),
        chunk_bytes=CHUNK,
        key=key,
        cost=KdfCost(1024, 1, 1),
        cache_folder=folder / "cache",
    ) as repository:
        point = None
        for version in range(3):
            point = commit(repository, version, point)
            expected[str(point.point_id)] = {
                "disks": {
                    f"scsi 0:{index}": hashlib.sha256(disk_content(version, *size)).hexdigest()
                    for index, size in enumerate(((300, 1536), (4, 512)))
                },
                "files": {"vm.vmcx": hashlib.sha256(b"configuration " * 9000 + b"end").hexdigest(),
                          "vm.vmrs": hashlib.sha256(b"").hexdigest()},
            }  # fmt: skip
        assert point is not None
        if repository.settings.format > 1:
            add_what_format_2_has(repository, point)
        repository.catalog.proofs.record(point, Proof("restored", START, 1, uuid4()))
        expected["key"] = {} if key is None else {
            "passphrase": PASSPHRASE, "exported": repository.keys.export().text.reveal()
        }  # fmt: skip
    (HERE / f"{name}.json").write_text(json.dumps(expected, indent=1) + "\n")
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder / name, name, filter=lambda info: None if info.name.endswith("/tmp") else info)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        make(f"format-{sys.argv[1]}-plain", None, Path(made))
        make(f"format-{sys.argv[1]}-sealed", Secret(PASSPHRASE), Path(made))
