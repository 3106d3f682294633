"""Compares the index cache with the index objects that it was made from.

A cache on the client can become corrupt, which must not be reported as damage of the repository. Only rows
that differ are replaced, since another process may be using the numbers of the others.
"""

from __future__ import annotations

import logging

from hvpsbridge.formats.index import IndexObject
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.index_objects import current_index
from hvpsbridge.repository.layout import binary_name
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)


def check_cache(objects: Objects, cache: IndexCache) -> None:
    """Correct the cache where it differs from index objects; those that cannot be read are skipped."""
    for name, content in current_index(objects, cache):
        reconcile(cache, name, content)


def reconcile(cache: IndexCache, name: str, content: IndexObject) -> None:
    """Correct the cache's rows of the index object ``name`` if they differ from its content."""
    binary = binary_name(name)
    if not cache.matches(binary, content):
        logger.warning("the index cache differed from %s and was corrected", name)
        cache.correct(binary, content)
