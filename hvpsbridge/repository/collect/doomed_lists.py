"""Lists of doomed packs and points: reading, publishing and removing them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.doomed import DoomedList, check_doomed
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository.layout import DOOMED, random_name
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)


def read_doomed(objects: Objects) -> Iterator[tuple[str, DoomedList]]:
    """Names and contents of the lists that can be read. Others are logged; nothing in them is deleted."""
    if objects.format < 2:
        return
    seen: set[str] = set()
    while True:
        missing = False
        for info in list(objects.list(DOOMED)):
            if info.name in seen:
                continue
            try:
                listed = objects.read_record(DoomedList, info.name, Kind.DOOMED)
                check_doomed(listed)
            except ObjectMissing:
                missing = True
                continue
            except (Damaged, NewerObject) as err:
                logger.error("%s", err)
            except Malformed as err:
                logger.error("%s", objects.unreadable(info.name, err))
            else:
                yield info.name, listed
            seen.add(info.name)
        if not missing:
            return
        # A collect replaced a list since the listing, and the new one may not have been in it.


def doomed_packs(objects: Objects) -> frozenset[bytes]:
    """Names of the packs that writers count as absent, also those in no index: somebody may rebuild it."""
    lists = (listed for _, listed in read_doomed(objects))
    return frozenset(pack.name for listed in lists for pack in (*listed.packs, *listed.unlisted))


def publish_doomed(objects: Objects, listed: DoomedList) -> str:
    """Publish a list durably; its name."""
    name = f"{DOOMED}/{random_name().hex()}"
    objects.write_record(name, Kind.DOOMED, listed)
    objects.store.commit_barrier()
    return name
