"""The store contract: everything that a repository asks of the place that keeps its objects.

Create-if-absent, ranged get, list, delete, and a barrier. No rename, no append, no overwrite. An object is
whole or absent: a reader never finds a name before all of its bytes are there. A store may be used from
several threads.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from hvpsbridge.errors import Damaged, ObjectMissing, StoreError
from hvpsbridge.units import MIB

# Only a checked name becomes a path or a key. It is lower-case words joined by "/", without dots, so it
# cannot be "..", a hidden file or a temporary name.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}(/[a-z0-9][a-z0-9_-]{0,99}){0,4}(\.py)?")
TEMPORARY_FOLDER = "tmp"
# What an interrupted ``repo init`` or probe may have left in a place.
OWN_NAMES = frozenset({TEMPORARY_FOLDER, "keys", "probe", "restore.py"})
# What is looked at of a place that is not a repository.
CONTENT_NAMES = 1000
# A temporary file this old was left by a process that died: writing a pack takes minutes.
STALE_TEMPORARY_SECONDS = 2 * 86400
# The largest objects are packs, which have little more than 32 MiB.
MAX_OBJECT_BYTES = 64 * MIB
# Temporary files have such names, and nothing else in their folder is removed.
TEMPORARY_NAME = re.compile("[0-9a-f]{32}")
FOLDER_IS_LINK = "the folder is a link; make it a folder, or mount one there"
FOLDER_IS_OTHER = "it should be a folder, but something else has the name; remove that"
NOT_REGULAR = "it is not a regular file"
# Folders are this deep at most: data/ab/name.
MAX_DEPTH = 3


def check_name(name: str) -> str:
    """``name``, if it is a valid object name.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid object name")
    return name


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing.

    Attributes:
        name: its name, which may be one that no object can have, since anyone may have made it.
        size_bytes: its size; -1 when it is no object, but a link, a device, or a folder that is too deep.
        stamp: changes when the object is written again, which a store does not do itself; empty if the store
            shows nothing like that.
    """

    name: str
    size_bytes: int
    stamp: str = field(default="", compare=False)


class Sink(ABC):
    """A new object while it is written; used by one thread at a time.

    As a context manager it abandons, at the end, what was not published.
    """

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes. The caller may reuse the buffer when this returns.

        Raises:
            NoSpace: the store, or the spool in front of it, is full.
        """

    def write_all(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append parts one after another, as :meth:`write`."""
        for part in parts:
            self.write(part)

    @abstractmethod
    def publish(self) -> None:
        """Make the whole object visible under its name.

        Raises:
            ObjectExists: the name is taken; the object there is left as it is.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Discard what was written. Does nothing after :meth:`publish`. Never raises."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


class Store(ABC):
    """A place for objects. Its errors are ``StoreError`` and subclasses, with :attr:`url` in them.

    Attributes:
        url: where it is, as shown to people; without credentials.
        remote: whether a request costs a round trip: readers then fetch larger ranges, several at once.
        keeps_versions: whether deleted objects stay as old versions; known after the first object is stored.
    """

    url: str
    remote: bool
    keeps_versions: bool = False

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:
        """The store that ``url`` names; for stores in the registry.

        Args:
            url: valid as a URL, with the scheme of this store.
            create: create the place when it is missing.

        Raises:
            ConfigurationError: the URL has parts that mean nothing here.
            ObjectMissing: there is no such place.
        """
        raise NotImplementedError(f"{cls.__name__} has no URLs")

    @property
    def place(self) -> str:
        """Where it is, in one form however the URL is spelled.

        Copies of a repository at other places have the same id, so caches and leases go by both. Two forms
        for one place only cost a second cache.
        """
        return self.url

    @property
    @abstractmethod
    def durable(self) -> bool:
        """Whether :meth:`commit_barrier` can keep its promise here."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Create the object ``name``.

        Raises:
            ObjectExists: the name is taken.
            NoSpace: the store is full.
        """

    @abstractmethod
    def sink(self, name: str) -> Sink:
        """A new object ``name``, to be written piece by piece."""

    @abstractmethod
    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object. Not more than ``max_bytes`` are read into memory.

        Raises:
            ObjectMissing: there is no such object.
            Damaged: it is larger than ``max_bytes``, or not a regular file.
        """

    def check_size(self, name: str, size_bytes: int, max_bytes: int) -> None:
        """Check the size of an object before it is read.

        Raises:
            Damaged: it is larger than ``max_bytes``.
        """
        if size_bytes > max_bytes:
            what = f"it has {size_bytes} bytes, but may have at most {max_bytes}"
            raise Damaged(self.url, name, what)

    def whole_range(self, name: str, data: bytes, length: int) -> bytes:
        """``data``, if it is as long as what was asked for.

        Raises:
            StoreError: the object ends before.
        """
        if len(data) != length:
            raise StoreError(self.url, "read", name, f"the object ends {length - len(data)} bytes early")
        return data

    @abstractmethod
    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``.

        Raises:
            ObjectMissing: there is no such object.
            StoreError: the object ends before.
        """

    @abstractmethod
    def size(self, name: str) -> int:
        """Size of the object in bytes.

        Raises:
            ObjectMissing: there is no such object.
        """

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            self.size(name)
        except ObjectMissing:
            return False
        return True

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose name starts with ``prefix`` followed by "/", in no particular order.

        Links are not followed, and have size -1, as devices have. An object of size 0 counts as absent: a
        writer that died may have left it, or a copy of the files that was not finished.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove the object; does nothing when it is gone already."""

    @abstractmethod
    def commit_barrier(self) -> None:
        """Return when everything published before would survive a power loss."""

    def free_bytes(self) -> int | None:
        """How much more fits in; None if the store does not say."""
        return None

    def content(self) -> frozenset[str]:
        """Names directly in the place, hvps's or not; some of them if there are very many."""
        return frozenset()

    def make_folders(self, names: Iterable[str]) -> None:  # noqa: B027 (most stores have no folders)
        """Create folders that objects will be in, so that nothing else gets their names. Never raises."""

    def sweep(self) -> int:
        """Count of temporary files of dead processes that were removed. Never raises."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Close connections. Never raises."""
