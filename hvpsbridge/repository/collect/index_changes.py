"""Takes packs out of the index, and adds those that a collect has stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.index import IndexedPack, IndexObject
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.index_objects import INDEX_ENTRIES, current_index, publish_index
from hvpsbridge.repository.layout import INDEX, binary_name, index_name
from hvpsbridge.repository.objects import Objects

# Index objects with less than this part of the usual count of entries are merged, if there are two of them.
SMALL_PART = 4


@dataclass(frozen=True, slots=True)
class ListedPacks:
    """Packs of one index object.

    Attributes:
        name: object name of the index object.
        run: of the writer; None without one.
        entries: count of the entries of all packs.
    """

    name: str
    run: UUID | None
    packs: tuple[bytes, ...]
    entries: int


def listed_packs(objects: Objects, cache: IndexCache) -> list[ListedPacks]:
    """What each index object lists."""
    return [
        ListedPacks(
            name,
            content.run,
            tuple(pack.name for pack in content.packs),
            sum(len(pack.entries) for pack in content.packs),
        )
        for name, content in current_index(objects, cache)
    ]


def replace_index(
    objects: Objects,
    cache: IndexCache,
    gone: Collection[bytes],
    alive: Collection[UUID],
    check: Callable[[], None],
) -> int:
    """Publish an index without the packs ``gone``, and merge small index objects; how many were replaced.

    Index objects of runs that are alive are replaced only if one of their packs is gone, since they show
    whose the packs are.

    Args:
        objects, cache: of the repository.
        gone: names of packs.
        alive: runs in progress.
        check: called before each change: what a collect that was declared dead would publish may list packs
            that another one has deleted.
    """
    check()
    _delete_superseded(objects, cache)
    everything = listed_packs(objects, cache)
    small = [
        each for each in everything if each.entries * SMALL_PART < INDEX_ENTRIES and each.run not in alive
    ]
    merged = {each.name for each in small} if len(small) > 1 else set()
    old = {
        each.name for each in everything if each.name in merged or any(pack in gone for pack in each.packs)
    }
    if not old:
        return 0
    for names, packs in _batches(objects, cache, old, frozenset(gone)):
        # If nothing is left, deleting them is enough, unless they supersede what cannot be deleted.
        if packs or not old.issuperset(names):
            check()
            publish_index(objects, IndexObject(tuple(map(binary_name, names)), packs))
    check()
    for name in old:
        objects.try_delete(name, "which is superseded")
    return len(old)


def _delete_superseded(objects: Objects, cache: IndexCache) -> None:
    """Delete superseded index objects that a collect that died, or a power loss, has left.

    They would count again if those that supersede them were deleted.
    """
    superseded = set(map(index_name, cache.superseded()))
    if left := [info.name for info in objects.list(INDEX) if info.name in superseded]:
        for name in left:
            objects.try_delete(name, "which is superseded")
        objects.store.commit_barrier()


def _batches(
    objects: Objects, cache: IndexCache, old: Collection[str], gone: Collection[bytes]
) -> Iterator[tuple[list[str], tuple[IndexedPack, ...]]]:
    """Names of index objects, and the packs of theirs that stay, for each new index object."""
    names: list[str] = []
    packs: dict[bytes, IndexedPack] = {}
    count = 0
    # What an old object supersedes is still there if the store refused to delete it.
    there = {binary_name(info.name) for info in objects.list(INDEX)}
    for name, content in current_index(objects, cache):
        if name not in old:
            continue
        staying = [pack for pack in content.packs if pack.name not in gone]
        entries = sum(len(pack.entries) for pack in staying)
        if names and count + entries > INDEX_ENTRIES:
            yield names, tuple(packs.values())
            names, packs, count = [], {}, 0
        names += [name, *(index_name(each) for each in content.supersedes if each in there)]
        packs.update((pack.name, pack) for pack in staying)
        count += entries
    if names:
        yield names, tuple(packs.values())
