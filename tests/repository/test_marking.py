"""What a collect marks, against a walk of every tree."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.check.verify import parts_of
from hvpsbridge.repository.collect import marking
from hvpsbridge.repository.collect.marking import Marks
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.tree import TreeReader
from tests.repository.conftest import CHUNK, VM, disk_of, manifest_of, reopen
from tests.repository.memory_store import MemoryStore

# A tree of two levels.
CHUNKS = 700


def history(repository: Repository, seed: int, points: int = 6) -> list[Point]:
    """Points of two VMs, of disks that change at random places and grow; some chunks are stored twice."""
    dice = random.Random(seed)
    made: dict[UUID, Point] = {}
    found = []
    for _ in range(points):
        vm = dice.choice((VM, UUID(int=9)))
        base = made.get(vm)
        size = CHUNK * dice.choice((3, CHUNKS)) if base is None else base.disks[0].size_bytes
        size += dice.choice((0, 0, CHUNK // 2, 3 * CHUNK)) if base is not None else 0
        with repository.begin(uuid4()) as writer:
            if dice.random() < 0.5:  # as a writer that began beside the others
                writer._cache.holder = lambda *_: None  # type: ignore[method-assign]
            disk = writer.disk(size, None if base is None else base.disks[0].tree)
            count = repository.grid.count(size)
            for number in dice.sample(range(count), min(count, 40)):
                length = min(CHUNK, size - number * CHUNK)
                disk.put(number, bytes([dice.randrange(6)]) * length)
            files = (writer.file("config", [dice.choice((b"one", b"other"))]),)
            point = writer.commit(manifest_of([disk_of(disk.finish())], vm_id=vm, files=files))
        vars(repository._cache).pop("holder", None)
        made[vm] = point
        found.append(point)
    return found


def needed_by(repository: Repository, points: list[Point]) -> set[tuple[Kind, bytes]]:
    needed: set[tuple[Kind, bytes]] = set()
    for point in points:
        for _, tree in parts_of(point):
            reader = TreeReader(repository._frames, tree, repository.grid.count(tree.size_bytes))
            needed |= {(Kind.NODE_PACK, identity) for identity in reader.node_ids()}
            needed |= {(Kind.DATA_PACK, identity) for _, identity in reader.chunk_ids()}
    return needed


@pytest.mark.parametrize("seed", range(6))
def test_marks_are_those_of_a_walk_of_every_tree(
    seed: int, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marking, "NODES_AT_ONCE", 2)
    monkeypatch.setattr(marking, "IDS_AT_ONCE", 50)
    points = history(repository, seed)
    cache = repository._cache
    places = [place for pack in cache.packs() for place in cache.pack_entries(pack.number)]
    bad = {(place.id, place.pack) for place in random.Random(seed).sample(places, 10)}
    marks = Marks(cache, repository._frames, repository.grid, (), (), bad)
    for some in (points[::2], points):  # the first ones again
        marks.add(point.manifest for point in some)
        needed = needed_by(repository, some)
        marked = [place for place in places if marks.has(place)]
        assert sorted((place.kind, place.id) for place in marked) == sorted(needed)
        by_id: dict[tuple[Kind, bytes], list[bool]] = {}
        for place in places:
            by_id.setdefault((place.kind, place.id), []).append((place.id, place.pack) in bad)
        for place in marked:
            copies = by_id[place.kind, place.id]
            assert (place.id, place.pack) not in bad or all(copies)
            assert ((place.kind, place.id) in marks.doubles) == (len(copies) > 1)
        for place in places:
            is_other = (place.kind, place.id) in needed and not marks.has(place)
            assert marks.is_double(place) == is_other
    sizes = cache.live_bytes(marks.copy())
    for pack in cache.packs():
        entries = cache.pack_entries(pack.number)
        live = sum(place.frame_bytes for place in entries if marks.has(place))
        assert sizes[pack.number] == (sum(place.frame_bytes for place in entries), live)


def test_a_node_that_is_missing_is_damage(repository: Repository, store: MemoryStore) -> None:
    (point,) = history(repository, 0, points=1)
    for pack in repository._cache.packs():
        if pack.kind is Kind.NODE_PACK:
            del store.objects[pack_name(pack.kind, pack.name)]
    with reopen(store) as fresh, pytest.raises(Damaged):
        Marks(fresh._cache, fresh._frames, fresh.grid, (), (), ()).add([point.manifest])


def test_what_is_in_no_index_is_damage(repository: Repository, store: MemoryStore) -> None:
    (point,) = history(repository, 0, points=1)
    for name in list(store.objects_under("index")):
        del store.objects[name]
    with reopen(store) as fresh, pytest.raises(Damaged):
        Marks(fresh._cache, fresh._frames, fresh.grid, (), (), ()).add([point.manifest])
