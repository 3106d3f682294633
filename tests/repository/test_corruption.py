"""Random corruption: every change of a repository's bytes is found, and nothing wrong is restored.

Each case corrupts one object of a small repository: it flips a bit, truncates it, swaps it with another
object, swaps two of its frames, restores older bytes of it, or removes it. Then everything is read by a
fresh repository. This runs a sample; ``make soak`` runs 10,000 cases of each kind of repository. Seeds are
printed.

The bytes of the repository depend only on :data:`BUILD_SEED`, and a case on its seed and number, so a case
that failed can be repeated alone (with the same version of zstd):

    HVPS_SEED=20261122 HVPS_CASE=4711 pytest tests/repository/test_corruption.py -k "sample and sealed"
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from uuid import UUID

import pytest
import zstandard

from hvpsbridge.errors import HvpsError
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Level, Repository
from tests.repository.conftest import CHUNK, VM, disk_of, make, manifest_of, reopen, store_point
from tests.repository.determined import determined, holder
from tests.repository.memory_store import MemoryStore

BUILD_SEED = 99
SAMPLE = 100
FULL = 10_000
# Objects that may be missing without being noticed, as docs/guarantees.md says: an old ledger entry, a proof,
# a list of bad frames, a lease, the mark of an export, and ids (the point is not a base then).
MAY_VANISH = ("ids/", "ledger/", "leases/", "proofs/", "exports/")


# Chunks that are not zero, by offset, and the size of the disk.
Content = tuple[dict[int, bytes], int]


def content_map(content: bytes) -> Content:
    chunks = {at: content[at : at + CHUNK] for at in range(0, len(content), CHUNK)}
    return {at: chunk for at, chunk in chunks.items() if any(chunk)}, len(content)


@dataclass
class Built:
    store: MemoryStore
    contents: dict[UUID, dict[str, Content]]
    older: dict[str, bytes]


def build(sealed: bool) -> Built:
    with determined(BUILD_SEED):
        return _build(sealed)


def _build(sealed: bool) -> Built:
    dice = random.Random(BUILD_SEED)
    store = MemoryStore()
    contents: dict[UUID, dict[str, Content]] = {}
    older: dict[str, bytes] = {}
    with make(store, sealed=sealed) as repository:
        point = None
        content = bytearray(dice.randbytes(4 * CHUNK) + bytes(3 * CHUNK) + b"text " * CHUNK)
        for number in range(3):
            content[number * CHUNK + 5] ^= 1
            point = store_point(repository, bytes(content), base=point, changed=[number] if point else None)
            contents[point.point_id] = {"scsi 0:0": content_map(bytes(content))}
            finish(repository, point.point_id)
            if number == 1:
                older = dict(store.objects)
        extra(repository, contents)
    return Built(store, contents, older)


def finish(repository: Repository, point_id: UUID) -> None:
    """Write everything else that belongs to a point."""
    point = next(point for point in repository.catalog.points() if point.point_id == point_id)
    disks = tuple(DiskIds(disk.slot, disk.disk_id, disk.rct_id or "") for disk in point.disks)
    repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), VM, "RP", disks))
    repository.catalog.proofs.record(point, Proof("restored", point.created, 1, point.manifest.run_id))
    entry = LedgerEntry(
        kind=LedgerKind.SETTLED, run_id=point.manifest.run_id, vm_id=VM, host="hv01", at=point.created
    )
    repository.ledger(VM).append(entry)
    repository.lease(VM, holder(point.manifest.run_id)).release()
    if repository.encrypted:
        repository.keys.record_export()


def extra(repository: Repository, contents: dict[UUID, dict[str, Content]]) -> None:
    """A point with two disks and a file, of another VM."""
    with repository.begin(UUID(int=3)) as writer:
        disks = []
        for number in range(2):
            disk = writer.disk(300 * CHUNK, None)
            disk.put(299, bytes([number + 1]) * CHUNK)
            disks.append(disk_of(disk.finish(), slot=f"scsi 0:{number}"))
        file = writer.file("vm.vmcx", [b"configuration" * 100])
        point = writer.commit(manifest_of(disks, vm_id=UUID(int=4), files=(file,)))
    contents[point.point_id] = {
        f"scsi 0:{number}": ({299 * CHUNK: bytes([number + 1]) * CHUNK}, 300 * CHUNK) for number in range(2)
    }
    disk_ids = tuple(DiskIds(disk.slot, disk.disk_id, disk.rct_id or "") for disk in point.disks)
    repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), point.vm_id, "RP", disk_ids))


def corrupt(dice: random.Random, built: Built) -> tuple[MemoryStore, str, str]:
    """A copy with one corruption; which, and of which object."""
    store = MemoryStore()
    store.objects = dict(built.store.objects)
    names = list(store.objects)
    name = dice.choice(names)
    data = store.objects[name]
    how = dice.choice(["flip", "cut", "swap", "older", "remove", "frames", "grow"])
    if how == "flip":
        at = dice.randrange(len(data))
        store.objects[name] = data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :]
    elif how == "cut":
        store.objects[name] = data[: dice.randrange(1, len(data))]
    elif how == "grow":
        store.objects[name] = data + dice.randbytes(dice.randrange(1, 100))
    elif how == "swap":
        other = dice.choice([each for each in names if each != name and store.objects[each] != data])
        store.objects[name], store.objects[other] = store.objects[other], data
        name = f"{name} {other}"
    elif how == "older":
        # Bytes that this name, or another one of its kind, had when there were fewer points.
        kind = name.split("/")[0]
        earlier = [
            old for each, old in sorted(built.older.items()) if each.split("/")[0] == kind and old != data
        ]
        if not earlier:
            return corrupt(dice, built)
        store.objects[name] = dice.choice(earlier)
    elif how == "remove":
        del store.objects[name]
    else:
        name = dice.choice([each for each in names if each.startswith("data/")])
        data = bytearray(store.objects[name])
        at, length = dice.randrange(8, len(data) // 2), dice.randrange(60, 200)
        there = dice.randrange(len(data) // 2, len(data) - length)
        data[at : at + length], data[there : there + length] = (
            data[there : there + length],
            data[at : at + length],
        )
        if bytes(data) == store.objects[name]:
            return corrupt(dice, built)
        store.objects[name] = bytes(data)
    return store, how, name


def judge(store: MemoryStore, built: Built) -> tuple[bool, str]:
    """Whether the corruption was found; fails if anything wrong is restored as good."""
    try:
        repository = reopen(store)
    except (HvpsError, KeyError) as err:
        return True, f"open: {err}"
    with repository:
        report = repository.verify(Level.HASHED)
        for point in repository.catalog.points():
            for disk in point.disks:
                try:
                    content = dict(repository.image(point, disk).chunks())
                except HvpsError:
                    assert not report.good, f"verify passed what cannot be restored: {point.point_id}"
                    continue
                expected = built.contents[point.point_id][disk.slot]
                assert (content, disk.size_bytes) == expected, "wrong bytes restored as good"
        missing = set(built.contents) - {point.point_id for point in repository.catalog.points()}
        assert not (missing and report.good), f"points vanished unseen: {missing}"
        found = (*report.problems, *report.notes)
        return bool(found), "; ".join(problem.what for problem in found)


def run(sealed: bool, count: int, seed: int) -> None:
    zstd = ".".join(map(str, zstandard.ZSTD_VERSION))
    sys.stdout.write(f"seed {seed}, {count} corruptions, {'sealed' if sealed else 'plain'}, zstd {zstd}\n")
    built = build(sealed)
    assert judge(built.store, built) == (False, "")
    only = os.environ.get("HVPS_CASE")
    for number in range(count) if only is None else [int(only)]:
        try:
            run_case(built, seed, number)
        except BaseException:
            sys.stdout.write(f"replay with HVPS_SEED={seed} HVPS_CASE={number}\n")
            raise


def case(built: Built, seed: int, number: int) -> tuple[MemoryStore, str, str]:
    """The corruption of a seed and a number."""
    return corrupt(random.Random(f"{seed} {number}"), built)


def run_case(built: Built, seed: int, number: int) -> None:
    store, how, name = case(built, seed, number)
    found, _ = judge(store, built)
    harmless = how == "remove" and name.startswith(MAY_VANISH)
    assert found or harmless, f"case {number}: {how} of {name} was not found"


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_a_case_is_the_same_whenever_it_is_built(sealed: bool) -> None:
    first, again = build(sealed), build(sealed)
    assert list(first.store.objects.items()) == list(again.store.objects.items())
    assert first.contents == again.contents
    for number in range(20):
        one, two = case(first, 5, number), case(again, 5, number)
        assert (one[0].objects, one[1:]) == (two[0].objects, two[1:])


def test_outside_of_these_tests_no_two_repositories_are_the_same() -> None:
    build(sealed=True)
    made = [MemoryStore(), MemoryStore()]
    for store in made:
        with make(store, sealed=True) as repository:
            store_point(repository, b"same" * CHUNK)
    assert set(made[0].objects) & set(made[1].objects) == {"config", "restore.py"}


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_a_sample_of_corruptions_is_found(sealed: bool) -> None:
    run(sealed, SAMPLE, int(os.environ.get("HVPS_SEED", "20261122")))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_ten_thousand_corruptions_are_found(sealed: bool) -> None:
    run(sealed, FULL, int(os.environ.get("HVPS_SEED", "20261122")))
