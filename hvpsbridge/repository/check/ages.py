"""The age of the oldest check, from what verifications recorded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.cache import FIND_AT_ONCE, IndexCache
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.check.coverage import standing_of
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.verified import read_ages


def unverified_since(
    objects: Objects, cache: IndexCache, catalog: Catalog, images: Iterable[DiskImage] | None
) -> datetime | None:
    """Since when one of the packs that ``images`` need was not hashed; any pack of the index, without images.

    Raises:
        Damaged: a node of an image cannot be read.
    """
    if objects.format < 2:
        return None
    packs = cache.pack_names() if images is None else _packs_of(cache, images)
    return standing_of(packs, read_ages(objects), catalog).oldest


def _packs_of(cache: IndexCache, images: Iterable[DiskImage]) -> set[bytes]:
    found: set[bytes] = set()
    walked: set[bytes] = set()
    for image in images:
        ids = (identity for _, identity in image.chunk_ids(walked))
        while batch := list(itertools.islice(ids, FIND_AT_ONCE)):
            found |= cache.packs_with(batch, Kind.DATA_PACK)
    return found | cache.packs_with(walked, Kind.NODE_PACK)
