"""A chunk index: files that all processes of a user share, and the look-ups in them."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from hvpsbridge.formats.index_table import IndexTable, Rows
from hvpsbridge.repository.chunk_index import changes
from hvpsbridge.repository.chunk_index import manifest as manifests
from hvpsbridge.repository.chunk_index.files import Busy, Files
from hvpsbridge.repository.chunk_index.filters import filter_mask
from hvpsbridge.repository.chunk_index.manifest import Manifest
from hvpsbridge.repository.chunk_index.runs import SHORT_ID_BYTES, Run, halves, merged_parts
from hvpsbridge.repository.chunk_index.tables import Tables

LOCK = "lock"
MERGE_LOCK = "merge-lock"
_KEPT = frozenset({LOCK, MERGE_LOCK, manifests.NAME})
# Seconds to wait for another process. It holds the lock for less than a second, or for minutes while it
# removes packs that are gone from a large index.
BUSY_SECONDS = 600.0
# How often a manifest is read whose files are gone: another process replaced it meanwhile.
TRIES = 10
# Rows that a process merges where others wait for its result.
QUICK_ROWS = 2_000_000
# Look-ups whose rows are read ahead.
AHEAD = 256


class ChunkIndex:
    """One view of a chunk index. Not thread-safe.

    Look-ups see what counted at the last :meth:`reload` or change. Numbers of entries and packs stay until
    ``epoch`` changes.

    Args:
        files: where it is.
        keyed: whether ids are keyed, so that 16 bytes of them are enough.

    Raises:
        ValueError: from any method: a file is not what hvps wrote. :func:`begin_anew` helps.
        OSError: from any method: a file cannot be read or written.
        Busy: another process holds the lock for very long.
    """

    def __init__(self, files: Files, keyed: bool) -> None:
        self._files = files
        self._keyed = keyed
        self._runs: dict[str, Run] = {}
        self._tables: Tables | None = None
        self.look_ups = 0
        try:
            self.reload()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files. May be called more than once."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        if self._tables is not None:
            self._tables.close()

    # -- what counts --------------------------------------------------------------------------------

    @property
    def tables(self) -> Tables:
        """Packs and entries."""
        if self._tables is None:
            raise ValueError("it is not open")
        return self._tables

    @property
    def manifest(self) -> Manifest:
        """What counts."""
        return self.tables.manifest

    @property
    def epoch(self) -> int:
        """Changes when entries and packs get other numbers."""
        return self.manifest.epoch

    @property
    def names(self) -> frozenset[bytes]:
        """Names of the index objects in it."""
        return frozenset(bytes.fromhex(source.name) for source in self.manifest.sources if source.name)

    def superseded(self, vanished: frozenset[bytes] = frozenset()) -> frozenset[bytes]:
        """Names of index objects that those in it supersede, except for those that have vanished."""
        return frozenset(
            bytes.fromhex(old)
            for source in self.manifest.sources
            if source.name and bytes.fromhex(source.name) not in vanished
            for old in source.supersedes
        )

    def reload(self) -> None:
        """See what other processes have changed."""
        for attempt in range(TRIES):
            manifest = manifests.load(self._files)
            if manifest is None:
                manifest = Manifest(keyed=self._keyed)
            if manifest.keyed != self._keyed:
                raise ValueError("it is of another kind of repository")
            try:
                self._use(manifest)
                return
            except FileNotFoundError as err:
                if attempt == TRIES - 1:
                    raise ValueError(f"{err.filename} is missing") from err
                time.sleep(0.01 * attempt)

    def _use(self, manifest: Manifest) -> None:
        before = self._tables
        if before is not None and before.manifest == manifest:
            return
        tables = Tables(self._files, manifest, before)
        runs = {}
        try:
            for info in manifest.runs:
                known = self._runs.get(info.name)
                runs[info.name] = known if known and known.info == info else Run(self._files, info)
            if sum(info.rows for info in manifest.runs) != tables.entries:
                raise ValueError("its runs have other rows than its packs")
        except BaseException:
            tables.close()
            for run in runs.values():
                if run not in self._runs.values():
                    run.close()
            raise
        for run in self._runs.values():
            if run not in runs.values():
                run.close()
        self._runs, self._tables = runs, tables
        if before is not None:
            before.close()

    def check(self) -> None:
        """Read all files and compare them with their checksums.

        Raises:
            ValueError: one is not what was written.
        """
        self.tables.check()
        for run in self._runs.values():
            run.check()

    def lists(self, name: bytes, table: IndexTable) -> bool:
        """Whether the rows of an index object are equal to its content."""
        sources = self.manifest.numbers_of({name})
        if len(sources) != 1:
            return False
        numbers = self.tables.packs_listed_by(sources[0])
        if len(numbers) != len(table.packs):
            return False
        rows = self.tables.packs[numbers]
        if any(rows[field].tobytes() != table.packs[field].tobytes() for field in changes.PACK_FIELDS):
            return False
        starts = table.ends - table.packs["count"]
        return all(
            changes.same(self.tables.pack_rows(number), table.entries[start:end])
            for number, start, end in zip(numbers.tolist(), starts.tolist(), table.ends.tolist(), strict=True)
        )

    # -- changing it ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._files.locked(LOCK, BUSY_SECONDS):
            self.reload()
            yield

    def _publish(self, manifest: Manifest) -> None:
        manifests.publish(self._files, manifest)
        self._use(manifest)

    def _change(self, change: Callable[[], Manifest]) -> None:
        with self._locked():
            manifest = change()
            if manifest != self.manifest:
                self._publish(manifest)

    def add(self, objects: Sequence[tuple[bytes, IndexTable]]) -> None:
        """Add published index objects, unless they are there already."""
        for group in changes.groups(objects):
            self._change(functools.partial(self._added, group))

    def _added(self, objects: Sequence[tuple[bytes, IndexTable]]) -> Manifest:
        return changes.added(self._files, self.tables, objects)

    def drop(self, names: frozenset[bytes]) -> None:
        """Remove index objects: packs that no other one lists are gone."""
        if not names or names.isdisjoint(self.names):
            return

        def without() -> Manifest:
            old = self.manifest
            return replace(old.without(old.numbers_of(names)), serial=old.serial + 1)

        self._change(without)

    def tidy(self, *, quickly: bool) -> None:
        """Merge runs and remove what is gone, unless another process does that now.

        Args:
            quickly: leave what takes more than a second.
        """
        most = QUICK_ROWS if quickly else None
        while changes.to_merge(self.manifest.runs, most) or (not quickly and changes.is_sparse(self.tables)):
            try:
                with self._files.locked(MERGE_LOCK, 0):
                    self.reload()
                    if not quickly and changes.is_sparse(self.tables):
                        self._compact()
                    elif runs := changes.to_merge(self.manifest.runs, most):
                        self._merge([self._runs[info.name] for info in runs])
            except Busy:
                return

    def _merge(self, runs: Sequence[Run]) -> None:
        # Others may add rows meanwhile, but only the holder of this lock takes runs away.
        epoch, names = self.epoch, {run.info.name for run in runs}
        new = changes.merged(self._files, runs, f"run-{epoch}-{self.manifest.serial}-merged")
        with self._locked():
            here = self.manifest.runs
            if self.epoch == epoch and names <= {info.name for info in here}:
                left = tuple(info for info in here if info.name not in names)
                self._publish(replace(self.manifest, serial=self.manifest.serial + 1, runs=(*left, new)))
            self._sweep()

    def _compact(self) -> None:
        with self._locked():
            self._publish(
                changes.compacted(
                    self._files, self.tables, list(self._runs.values()), max(_new_epoch(), self.epoch + 1)
                )
            )
            self._sweep()

    def _sweep(self) -> None:
        """Remove files that do not count. The caller holds both locks: others may be writing files."""
        _remove_others(self._files, self.manifest)

    # -- looking up -------------------------------------------------------------------------------------

    def find(self, identity: bytes) -> list[int]:
        """Numbers of the entries with an id, those of packs that are gone included.

        Args:
            identity: the id; 16 bytes of it are compared.
        """
        self.look_ups += 1
        high = int.from_bytes(identity[:8], "big")
        mask = filter_mask(int.from_bytes(identity[8:SHORT_ID_BYTES], "big"))
        short = identity[:SHORT_ID_BYTES]
        found: list[int] = []
        for run in self._runs.values():
            found += run.find(short, high, mask)
        return found

    def find_all(self, ids: Sequence[bytes]) -> list[list[int]]:
        """For each id, what :meth:`find` returns; rows are read ahead."""
        self.look_ups += len(ids)
        found: list[list[int]] = [[] for _ in ids]
        if not ids:
            return found
        short = [identity[:SHORT_ID_BYTES] for identity in ids]
        high, low = halves(np.frombuffer(b"".join(short), "V16"))
        order = np.argsort(high, kind="stable")
        for run in self._runs.values():
            passed = order[run.may_hold(high[order], low[order])].tolist()
            highs = high[passed].tolist()
            for start in range(0, len(passed), AHEAD):
                run.prefetch(highs[start : start + AHEAD])
                for at, top in zip(passed[start : start + AHEAD], highs[start : start + AHEAD], strict=True):
                    if numbers := run.look(short[at], top):
                        found[at] += numbers
        return found

    def twins(self) -> Iterator[Rows]:
        """Numbers of entries whose id another one may have, some at a time; reads all runs.

        Those of packs that are gone do not count.
        """
        tables = self.tables
        for high, rows in merged_parts(list(self._runs.values())):
            numbers = rows["number"].astype(np.int64)
            found = _alike(high)
            if len(found):
                found = found[tables.alive[tables.packs_of(numbers[found])]]
                yield numbers[found[_alike(high[found])]]


def _alike(ascending: Rows) -> Rows:
    """Places of values that are equal to the one before or after."""
    same = ascending[1:] == ascending[:-1]
    both = np.zeros(len(ascending), bool)
    both[1:] |= same
    both[:-1] |= same
    return np.flatnonzero(both)


def begin_anew(files: Files, keyed: bool) -> None:
    """Replace whatever is there by an empty index.

    Raises:
        OSError: that is not possible.
    """
    with files.locked(LOCK, BUSY_SECONDS):
        fresh = Manifest(keyed=keyed, epoch=_new_epoch())
        manifests.publish(files, fresh)
        # A merge in another process finds another epoch afterwards, and drops its result.
        _remove_others(files, fresh)


def _new_epoch() -> int:
    # Different from that of a manifest that cannot be read.
    return time.time_ns() // 1_000_000


def _remove_others(files: Files, manifest: Manifest) -> None:
    kept = manifest.file_names | _KEPT
    for name in files.names():
        if name not in kept:
            files.remove(name)
