"""The index cache held against the index objects it was made from.

Nothing guards a client's cache against rot, and what it says wrong must not pass for the repository's damage.
Only rows that differ are replaced: another process may be using the numbers of the others.
"""

from __future__ import annotations

import contextlib
import logging

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.index import IndexObject, decode_index
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.layout import INDEX, binary_name
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)


def check_cache(objects: Objects, cache: IndexCache) -> None:
    """Correct the cache wherever it is not what the index objects say; those that cannot be read aside."""
    for info in list(objects.list(INDEX)):
        with contextlib.suppress(ObjectMissing, Damaged, Malformed):
            hold_against(cache, info.name, decode_index(objects.read(info.name, Kind.INDEX)))


def hold_against(cache: IndexCache, name: str, content: IndexObject) -> None:
    """Correct the cache's rows of the index object ``name``, if they are not what it says."""
    binary = binary_name(name)
    if not cache.matches(binary, content):
        logger.warning("the index cache here is not what %s says; corrected", name)
        cache.correct(binary, content)
