"""Packs that writers of this process have stored, but that are in no published index yet."""

from __future__ import annotations

from collections.abc import Iterable

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.pack import PackEntry
from hvpsbridge.repository.cache_rows import Location, place_in


class OwnPacks:
    """These packs and where their frames are. Not thread-safe."""

    def __init__(self) -> None:
        self._packs: dict[bytes, IndexedPack] = {}
        self._frames: dict[bytes, list[tuple[int, IndexedPack, PackEntry]]] = {}

    def add(self, pack: IndexedPack, run: int) -> None:
        """Add a pack of writer ``run``."""
        self._packs[pack.name] = pack
        for entry in pack.entries:
            self._frames.setdefault(entry.id, []).append((run, pack, entry))

    def drop(self, names: Iterable[bytes]) -> None:
        """Remove the packs of these names that are there."""
        for name in names:
            pack = self._packs.pop(name, None)
            for entry in pack.entries if pack else ():
                left = [each for each in self._frames.get(entry.id, ()) if each[1].name != name]
                if left:
                    self._frames[entry.id] = left
                else:
                    self._frames.pop(entry.id, None)

    def places(self, identity: bytes) -> list[Location]:
        """Where a frame is."""
        return [place_in(pack, entry) for _, pack, entry in self._frames.get(identity, ())]

    def holder(self, identity: bytes, kind: Kind, run: int) -> bytes | None:
        """Name of a pack of writer ``run`` that has a frame; None without one."""
        for writer, pack, _ in self._frames.get(identity, ()):
            if writer == run and pack.kind is kind:
                return pack.name
        return None
