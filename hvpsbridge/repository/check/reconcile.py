"""Compares the index cache with the index objects that it was made from.

A cache on the client can become corrupt, which must not be reported as damage of the repository. Only rows
that differ are replaced, since another process may be using the numbers of the others.
"""

from __future__ import annotations

import contextlib
import logging

from hvpsbridge.errors import Damaged, ObjectMissing
from hvpsbridge.formats.index_table import IndexTable
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.index_objects import read_index_table
from hvpsbridge.repository.layout import INDEX, binary_name, index_name
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)


def check_cache(objects: Objects, cache: IndexCache) -> None:
    """Correct the cache where it differs from index objects; those that cannot be read are skipped."""
    cache.check()
    superseded = set(map(index_name, cache.superseded()))
    for info in list(objects.list(INDEX)):
        if info.name not in superseded:
            with contextlib.suppress(ObjectMissing, Damaged):
                reconcile(cache, info.name, read_index_table(objects, info.name))


def reconcile(cache: IndexCache, name: str, content: IndexTable) -> None:
    """Correct the cache's rows of the index object ``name`` if they differ from its content."""
    binary = binary_name(name)
    if not cache.matches(binary, content):
        logger.warning("the index cache differed from %s and was corrected", name)
        cache.correct(binary, content)
