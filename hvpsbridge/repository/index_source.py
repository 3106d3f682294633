"""What the index cache is made from: the index objects in the store, without those known to be damaged."""

from __future__ import annotations

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.index_table import IndexTable
from hvpsbridge.repository.catalog import COULD_NOT_BE_READ, Catalog
from hvpsbridge.repository.index_objects import read_index_table
from hvpsbridge.repository.layout import INDEX, binary_name, index_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.base import ObjectInfo
from hvpsbridge.repository.unreadable import Unreadable


class IndexSource:
    """Lists and reads index objects; a ``cache.Source``.

    Args:
        objects: the repository.
        catalog: logs damage, once for each object.
        unreadable: objects that could not be read in the last day, which are not read again.
    """

    def __init__(self, objects: Objects, catalog: Catalog, unreadable: Unreadable) -> None:
        self._objects = objects
        self._catalog = catalog
        self._unreadable = unreadable
        self._listed: dict[bytes, ObjectInfo] = {}

    def index_names(self) -> list[bytes]:
        """Names of the current index objects."""
        self._listed = {binary_name(info.name): info for info in self._objects.list(INDEX)}
        return list(self._listed)

    def load_index(self, name: bytes) -> IndexTable | None:
        """The content of an index object; None if it is gone, or damaged, which is logged."""
        info = self._listed.get(name)
        if info is not None and info in self._unreadable:
            self._catalog.log_damage(self._objects.damaged(info.name, COULD_NOT_BE_READ))
            return None
        try:
            return read_index_table(self._objects, index_name(name))
        except ObjectMissing:
            return None  # superseded since the listing
        except Damaged as err:
            # The chunks that it lists count as lost; everything else can be used. verify shows the extent.
            self._catalog.log_damage(err)
        if info is not None:
            self._unreadable.add(info)
        return None
