"""Index objects of a repository: reading those that count, and publishing new ones."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexObject, decode_index, encode_index
from hvpsbridge.formats.index_table import IndexTable, decode_table
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.layout import INDEX, index_name, random_name
from hvpsbridge.repository.objects import Objects

T = TypeVar("T")
# An index object is published when it would have this many entries, about 1.5 MiB. So a commit of any size
# needs little memory, and most of the work of a run that dies can be used.
INDEX_ENTRIES = 32768


def read_index(objects: Objects, name: str) -> IndexObject:
    """The content of the index object ``name``.

    Raises:
        ObjectMissing: there is no such object.
        Damaged: it is not what was written there.
    """
    return _read(objects, name, decode_index)


def read_index_table(objects: Objects, name: str) -> IndexTable:
    """As :func:`read_index`, as arrays."""
    return _read(objects, name, decode_table)


def _read(objects: Objects, name: str, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(objects.read(name, Kind.INDEX))
    except Malformed as err:
        raise objects.damaged(name, err) from err


def current_index(objects: Objects, cache: IndexCache) -> Iterator[tuple[str, IndexObject]]:
    """Names and contents of the index objects that can be read and, according to the cache, no other
    supersedes."""
    superseded = set(map(index_name, cache.superseded()))
    for info in list(objects.list(INDEX)):
        if info.name not in superseded:
            with contextlib.suppress(ObjectMissing, Damaged):
                yield info.name, read_index(objects, info.name)


def publish_index(objects: Objects, content: IndexObject) -> bytes:
    """Store an index object durably; its name. Packs that were stored or listed before are durable first."""
    name = random_name()
    objects.store.commit_barrier()
    objects.write(index_name(name), Kind.INDEX, encode_index(content))
    objects.store.commit_barrier()
    return name
