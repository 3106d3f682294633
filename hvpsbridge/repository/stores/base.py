"""The store contract: all a repository asks of the place that keeps its objects.

Create-if-absent, ranged get, list, delete, and a barrier. No rename, no append, no overwrite. Objects
are whole or absent: a reader never sees a name whose bytes are not all there. An implementation may be
used from several threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

# A validated name is the only thing that becomes a path or a key: lower-case words joined by "/", no dots,
# so neither "..", hidden files nor temporary names can be meant.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}(/[a-z0-9][a-z0-9_-]{0,99}){0,4}(\.py)?")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing."""

    name: str
    size_bytes: int


class Sink(Protocol):
    """An object under construction; invisible until published. Used by one thread at a time."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; the buffer is the caller's again when it returns.

        Raises:
            NoSpace: the store (or the spool before it) is full.
        """
        ...

    def publish(self) -> None:
        """Make the object visible under its name, whole.

        Raises:
            ObjectExists: the name is taken; what is there stays.
        """
        ...

    def abandon(self) -> None:
        """Throw away what was written. Harmless after :meth:`publish`. Never raises."""
        ...


class Store(Protocol):
    """A place for objects. Errors are ``StoreError`` and its subclasses, with :attr:`url` in them."""

    @property
    def url(self) -> str:
        """Where this is, for people; without credentials."""
        ...

    @property
    def durable(self) -> bool:
        """Whether :meth:`commit_barrier` can keep its promise here."""
        ...

    @property
    def remote(self) -> bool:
        """Whether a request costs a round trip: readers then fetch larger ranges, several at once."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Create the object ``name``.

        Raises:
            ObjectExists: the name is taken.
            NoSpace: the store is full.
        """
        ...

    def sink(self, name: str) -> Sink:
        """A new object ``name`` to be written piece by piece."""
        ...

    def get(self, name: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: there is none.
        """
        ...

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``.

        Raises:
            ObjectMissing: there is no such object.
            StoreError: the object ends before.
        """
        ...

    def size(self, name: str) -> int:
        """Bytes of the object.

        Raises:
            ObjectMissing: there is none.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose name starts with ``prefix`` followed by "/", in no particular order."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object; nothing when it is gone already."""
        ...

    def commit_barrier(self) -> None:
        """Return when everything published before would survive a power loss."""
        ...

    def close(self) -> None:
        """Give up connections. Never raises."""
        ...


@runtime_checkable
class Sweeping(Protocol):
    """A store that may hold temporary files of processes that died."""

    def sweep(self) -> int:
        """Count of abandoned temporary files removed. Never raises: what cannot go stays."""
        ...


# A temporary file this old belongs to nobody: a pack is written within minutes.
STALE_TEMPORARY_SECONDS = 2 * 86400


def check_name(name: str) -> str:
    """``name``, when it may name an object.

    Raises:
        ValueError: it may not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no object name")
    return name


class SinkScope:
    """Mixin: ``with store.sink(name) as sink`` abandons what was not published."""

    def abandon(self) -> None:
        """See :class:`Sink`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()
