"""The chunk index against a model: random histories, kills between file steps, and processes side by side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.index import IndexedPack, IndexObject, decode_index, encode_index
from hvpsbridge.formats.index_table import decode_table, table_of
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import HEAD_BYTES, MAX_FRAME_BYTES, PackEntry
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.chunk_index import changes
from hvpsbridge.repository.chunk_index.files import FolderFiles, MemoryFiles
from hvpsbridge.repository.chunk_index.index import ChunkIndex
from hvpsbridge.repository.chunk_index.marks import Marks, live_bytes
from hvpsbridge.repository.chunk_index.runs import halves
from hvpsbridge.units import KIB

Place = tuple[bytes, int, int, int]


def pack_of(dice: random.Random, count: int, *, odd: bool = False) -> IndexedPack:
    """A pack as hvps writes it, or with gaps and lengths that are no powers of two."""
    entries, at = [], HEAD_BYTES
    for _ in range(count):
        frame = dice.randint(FRAME_BYTES, 3000)
        raw = dice.choice((64 * KIB, 8 * KIB, MAX_CHUNK_BYTES))
        if odd and dice.random() < 0.5:
            at += dice.randint(0, 3)
            raw = dice.randint(0, MAX_CHUNK_BYTES)
        entries.append(PackEntry(dice.randbytes(32), at, frame, raw))
        at += frame
    kind = dice.choice((Kind.DATA_PACK, Kind.NODE_PACK))
    return IndexedPack(dice.randbytes(16), kind, at + 10, tuple(entries))


class Model:
    """The index objects of a repository, and what a cache of them must say."""

    def __init__(self, seed: object) -> None:
        self.dice = random.Random(str(seed))
        self.objects: dict[bytes, IndexObject] = {}
        self.past: list[IndexedPack] = []

    def index_names(self) -> list[bytes]:
        return list(self.objects)

    def load_index(self, name: bytes) -> IndexObject | None:
        return self.objects.get(name)

    def publish(self, packs: int = 3, frames: int = 12) -> bytes:
        """A new index object; some of its chunks are copies of others, and some packs were listed before."""
        dice = self.dice
        new = [pack_of(dice, dice.randint(0, frames), odd=dice.random() < 0.3) for _ in range(packs)]
        if self.past and dice.random() < 0.3:
            twin, other = new[0], dice.choice(self.past)
            entries = [
                PackEntry(dice.choice(other.entries).id, e.offset, e.frame_bytes, e.raw_bytes)
                if other.entries and dice.random() < 0.5
                else e
                for e in twin.entries
            ]
            new[0] = IndexedPack(twin.name, twin.kind, twin.pack_bytes, tuple(entries))
        self.past += new
        if dice.random() < 0.3:
            again = dice.choice(self.past)
            if again not in new:
                new.append(again)
        name = dice.randbytes(16)
        self.objects[name] = IndexObject((), tuple(new))
        return name

    def vanish(self) -> None:
        if self.objects:
            del self.objects[self.dice.choice(sorted(self.objects))]

    def collect(self) -> None:
        """Merge all index objects into one, without some of the packs."""
        packs = {pack.name: pack for each in self.objects.values() for pack in each.packs}
        kept = tuple(pack for pack in packs.values() if self.dice.random() < 0.8)
        old = tuple(self.objects)
        if self.dice.random() < 0.5:
            self.objects.clear()  # else the store refuses to delete them
        self.objects[self.dice.randbytes(16)] = IndexObject(old, kept)

    def live(self) -> dict[bytes, IndexObject]:
        gone = {old for each in self.objects.values() for old in each.supersedes}
        return {name: each for name, each in self.objects.items() if name not in gone}

    def places(self) -> dict[bytes, set[Place]]:
        found: dict[bytes, set[Place]] = {}
        for content in self.live().values():
            for pack in content.packs:
                for e in pack.entries:
                    place = (pack.name, e.offset, e.frame_bytes, e.raw_bytes)
                    found.setdefault(e.id, set()).add(place)
        return found

    def check(self, cache: IndexCache) -> None:
        """Check everything that a cache says."""
        expected = self.places()
        ids = [entry.id for pack in self.past for entry in pack.entries]
        ids += [self.dice.randbytes(32) for _ in range(20)]
        found = cache.find_all(ids)
        for identity in ids:
            places = {(p.pack, p.offset, p.frame_bytes, p.raw_bytes) for p in found.get(identity, ())}
            assert places == expected.get(identity, set())
            assert all(place.id == identity for place in found.get(identity, ()))
        for identity in self.dice.sample(ids, min(len(ids), 10)):
            assert cache.find(identity) == tuple(found.get(identity, ()))
        packs = {pack.name: pack for each in self.live().values() for pack in each.packs}
        known = cache.packs()
        assert {pack.name: (pack.kind, pack.pack_bytes) for pack in known} == {
            name: (pack.kind, pack.pack_bytes) for name, pack in packs.items()
        }
        some = {pack.name for pack in known[::2]} | {self.dice.randbytes(16)}
        assert cache.packs_named(some) == known[::2]
        assert cache.packs_named(()) == ()
        numbers = [place.number for places in found.values() for place in places]
        assert max(numbers, default=0) <= cache.highest_number()
        for pack in known:
            listed = sorted(packs[pack.name].entries, key=lambda entry: entry.offset)
            assert [entry.id for entry in listed] == [place.id for place in cache.pack_entries(pack.number)]
        for name, content in self.live().items():
            assert cache.matches(name, content)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_random_history_is_as_the_model(seed: int, keyed: bool, tmp_path: Path) -> None:
    model = Model(seed)
    folder = tmp_path / "chunks"
    caches = [IndexCache(folder, model, keyed=keyed) for _ in range(2)]
    for step in range(40):
        what = model.dice.random()
        if what < 0.5:
            model.publish(model.dice.randint(1, 6))
        elif what < 0.65:
            model.vanish()
        elif what < 0.75:
            model.collect()
        elif what < 0.85:
            number = model.dice.randrange(2)
            caches[number].close()
            caches[number] = IndexCache(folder, model, keyed=keyed)
        cache = model.dice.choice(caches)
        cache.synchronise()
        model.check(cache)
        if step % 10 == 0:
            cache.check()
    for cache in caches:
        cache.synchronise()
        model.check(cache)
        assert len({path.name.split("-")[0] for path in folder.glob("entries-*")}) <= 1
        cache.close()


class Killed(BaseException):
    """The process was killed."""


class DyingFiles(FolderFiles):
    """Files of a machine that loses its power: what was not synced may be anything."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(folder)
        self.steps = steps
        self._opened: dict[int, str] = {}
        self._synced: dict[str, int] = {}

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise Killed

    def create(self, name: str) -> int:
        self._step()
        self._synced[name] = 0
        descriptor = super().create(name)
        self._opened[descriptor] = name
        return descriptor

    def extend(self, name: str) -> int:
        if "lock" in name:
            return super().extend(name)
        self._step()
        descriptor = super().extend(name)
        self._synced.setdefault(name, os.fstat(descriptor).st_size)
        self._opened[descriptor] = name
        return descriptor

    def sync(self, descriptor: int) -> None:
        self._step()
        self._synced[self._opened[descriptor]] = os.fstat(descriptor).st_size

    def rename(self, old: str, new: str) -> None:
        self._step()
        super().rename(old, new)
        self._synced[new] = self._synced.pop(old)

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)

    def lose_power(self, dice: random.Random) -> None:
        for name, size in self._synced.items():
            path = self._folder / name
            with contextlib.suppress(FileNotFoundError):
                lost = path.stat().st_size - size
                if lost > 0:
                    kept = path.read_bytes()[:size]
                    path.write_bytes(kept + dice.randbytes(dice.choice((0, lost // 2, lost))))


def _histories(seed: object) -> Iterator[Model]:
    """A model, changed step by step."""
    model = Model(seed)
    for what in ("publish", "publish", "collect", "publish", "vanish", "vanish", "publish"):
        for _ in range(3 if what == "publish" else 1):
            getattr(model, what)()
        yield model


@pytest.mark.parametrize("keyed", [False, True])
def test_an_index_outlives_a_kill_at_any_step(keyed: bool, tmp_path: Path) -> None:
    for steps in range(0, 400, 3):
        folder = tmp_path / str(steps)
        files = DyingFiles(folder, steps)
        model, killed = Model(0), False
        for model in _histories(steps % 7):
            try:
                _synchronise(files, model, keyed)
            except Killed:
                killed = True
                files.lose_power(model.dice)
                files = DyingFiles(folder, 1 << 30)
        cache = IndexCache(folder, model, keyed=keyed)
        cache.synchronise()
        assert not cache.renewals  # nothing had to be made again
        model.check(cache)
        cache.check()
        cache.close()
        if not killed:
            return
    raise AssertionError("it never ended")


def _synchronise(files: FolderFiles, model: Model, keyed: bool) -> None:
    """As a cache does, with these files."""
    index = ChunkIndex(files, keyed)
    try:
        listed = frozenset(model.index_names())
        index.drop(index.names - listed)
        wanted = sorted(listed - index.names - index.superseded())
        index.add([(name, table_of(model.objects[name])) for name in wanted])
        index.drop(index.superseded())
        index.tidy(quickly=False)
    finally:
        index.close()


def _work(folder: Path, seed: int, rounds: int) -> None:
    """Add and remove objects of one's own beside others, and find them all."""
    model = Model(seed)
    index = ChunkIndex(FolderFiles(folder), keyed=True)
    for _ in range(rounds):
        name = model.publish(20, 30)
        index.add([(name, table_of(model.objects[name]))])
        index.tidy(quickly=model.dice.random() < 0.5)
        if model.dice.random() < 0.3:
            gone = model.dice.choice(sorted(model.objects))
            index.drop(frozenset({gone}))
            del model.objects[gone]
        for identity, places in model.places().items():
            numbers = index.find(identity)
            alive = [at for at in map(index.tables.pack_of, numbers) if index.tables.alive[at]]
            assert len(alive) == len(places)
    index.check()
    index.close()


def test_processes_share_an_index(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(tmp_path / "chunks", seed, 15)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


@pytest.mark.parametrize("sizes", [[5, 5], [100, 24, 1, 1], [1000, 3], [9] * 12, []])
def test_runs_are_few_after_merging(sizes: list[int]) -> None:
    files = MemoryFiles()
    index = ChunkIndex(files, keyed=True)
    dice = random.Random(1)
    ids = []
    for number, count in enumerate(sizes):
        pack = pack_of(dice, count)
        ids += [entry.id for entry in pack.entries]
        index.add([(bytes([number]) * 16, table_of(IndexObject((), (pack,))))])
    index.tidy(quickly=False)
    left = sorted(run.rows for run in index.manifest.runs)
    assert sum(left) == sum(sizes)
    for number in range(1, len(left)):
        assert left[number] >= changes.RATIO * sum(left[:number])
    assert index.find_all(ids) == [[number] for number in range(len(ids))]
    index.close()


def test_what_is_near_costs_no_look_up() -> None:
    model = Model("near")
    pack = pack_of(model.dice, 200)
    model.objects[b"n" * 16] = IndexObject((), (pack,))
    cache = IndexCache(None, model, keyed=True)
    cache.synchronise()
    for entry in pack.entries:
        assert cache.holder(entry.id, pack.kind, 1) == pack.name
    assert cache.look_ups == 1
    cache.close()


def test_a_filter_passes_few_absent_ids() -> None:
    dice = random.Random(3)
    pack = pack_of(dice, 5000)
    index = ChunkIndex(MemoryFiles(), keyed=True)
    index.add([(b"f" * 16, table_of(IndexObject((), (pack,))))])
    (run,) = index._runs.values()

    high, low = halves(np.frombuffer(dice.randbytes(16 * 20000), "V16"))
    assert run.may_hold(high, low).mean() < 0.03
    high, low = halves(np.frombuffer(b"".join(entry.id[:16] for entry in pack.entries), "V16"))
    assert run.may_hold(high, low).all()
    index.close()


@pytest.mark.parametrize("keyed", [False, True])
def test_marks_are_of_ids_with_one_copy(keyed: bool) -> None:
    model = Model("marks")
    for _ in range(8):
        model.publish(6, 40)
    model.vanish()
    index = ChunkIndex(MemoryFiles(), keyed)
    index.add([(name, table_of(content)) for name, content in sorted(model.objects.items())])
    packs = {pack.name: pack for content in model.objects.values() for pack in content.packs}
    places = model.places()
    kinds = {e.id: pack.kind for pack in packs.values() for e in pack.entries if len(places[e.id]) == 1}
    twins = [identity for identity in places if len(places[identity]) > 1]
    absent = [model.dice.randbytes(32) for _ in range(5)]
    marks = Marks()
    for kind in (Kind.DATA_PACK, Kind.NODE_PACK):
        wanted = sorted(identity for identity in kinds if kinds[identity] is kind)
        half = wanted[: len(wanted) // 2]
        first = marks.mark(index, b"".join(half), kind)
        assert first.new.all()
        assert not first.unclear.any()
        some = [*half[:3], bytes(32), *absent, *twins, *wanted[-2:], wanted[-1]]
        again = marks.mark(index, b"".join(some), kind)
        assert again.new.tolist() == [False] * (len(some) - 3) + [True, True, False]
        unclear = [some[at] for at in np.flatnonzero(again.unclear).tolist()]
        assert unclear == absent + twins
        other = marks.mark(index, b"".join(half), 3 - kind)
        assert other.unclear.all()
    whole, live = live_bytes(index, marks.bits.tobytes())
    marked = {number for number in range(index.tables.entries) if not marks.add(number)}
    for number, row in enumerate(index.tables.packs):
        entries = packs[row["name"].tobytes()].entries
        first_number = int(index.tables.first[number])
        assert whole[number] == sum(entry.frame_bytes for entry in entries)
        assert live[number] == sum(
            entry.frame_bytes for at, entry in enumerate(entries) if first_number + at in marked
        )
    index.close()


class TestTables:
    @given(st.integers(0, 2**32), st.integers(0, 4), st.booleans())
    @settings(deadline=None)
    def test_a_table_is_the_index_object(self, seed: int, packs: int, odd: bool) -> None:
        dice = random.Random(seed)
        content = IndexObject(
            tuple(dice.randbytes(16) for _ in range(dice.randint(0, 3))),
            tuple(pack_of(dice, dice.randint(0, 5), odd=odd) for _ in range(packs)),
        )
        table = decode_table(encode_index(content))
        assert table.supersedes == content.supersedes
        assert tuple(table.pack(number) for number in range(packs)) == content.packs

    @given(st.integers(0, 2**32))
    @settings(deadline=None, max_examples=300)
    def test_it_refuses_what_the_other_decoder_refuses(self, seed: int) -> None:
        dice = random.Random(seed)
        payload = bytearray(encode_index(IndexObject((), tuple(pack_of(dice, 2) for _ in range(2)))))
        for _ in range(dice.randint(1, 3)):
            payload[dice.randrange(len(payload))] = dice.choice((0, 1, 0x7F, 0xFF))
        if dice.random() < 0.3:
            del payload[dice.randrange(len(payload)) :]
        try:
            expected: IndexObject | None = decode_index(payload)
        except Malformed:
            expected = None
        if expected is None:
            with pytest.raises(Malformed):
                decode_table(bytes(payload))
        else:
            table = decode_table(bytes(payload))
            assert tuple(table.pack(number) for number in range(len(table.packs))) == expected.packs

    def test_the_largest_frame_fits_an_entry(self) -> None:
        entry = PackEntry(b"x" * 32, HEAD_BYTES, MAX_FRAME_BYTES, MAX_CHUNK_BYTES)
        pack = IndexedPack(b"p" * 16, Kind.DATA_PACK, HEAD_BYTES + MAX_FRAME_BYTES, (entry,))
        model = Model("large")
        model.objects[b"o" * 16] = IndexObject((), (pack,))
        model.past.append(pack)
        cache = IndexCache(None, model)
        cache.synchronise()
        model.check(cache)
        cache.close()
