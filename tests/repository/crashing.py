"""The work of a process that backs up, copies or changes keys until it is killed. Run by test_crash.py.

It prints a line when it starts working, and after each commit.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from uuid import uuid4

from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.repository import Repository, copy_points, current_holder, open_repository
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.secret import Secret
from tests.repository.conftest import CHEAP, CHUNK, KEY, VM, disk_of, manifest_of

CHUNKS = 300
POINTS_KEPT = 3


@cache
def content_at(seed: int, version: int) -> bytes:
    """The content of the disk at a version; it can be computed again at any time."""
    if version < 0:
        return random.Random(seed).randbytes(CHUNK) * 20 + bytes((CHUNKS - 20) * CHUNK + 512)
    content = bytearray(content_at(seed, version - 1))
    dice = random.Random(f"{seed} {version}")
    for number in dice.sample(range(CHUNKS), 12):
        content[number * CHUNK : number * CHUNK + 4000] = dice.randbytes(4000)
    return bytes(content)


def changed_at(seed: int, version: int) -> list[int]:
    """Chunks that differ from the version before."""
    return random.Random(f"{seed} {version}").sample(range(CHUNKS), 12)


def backup(repository: Repository, seed: int, say: Callable[[str], None]) -> None:
    """Make points for ever; the version of a point is its sequence number minus one."""
    while True:
        holder = current_holder(run := uuid4())
        with repository.lease(VM, holder) as lease:
            points = repository.catalog.points(VM)
            version = points[-1].manifest.sequence if points else 0
            content = content_at(seed, version)
            with repository.begin(run) as writer:
                disk = writer.disk(len(content), points[-1].disks[0].tree if points else None)
                for number in changed_at(seed, version) if points else range(CHUNKS + 1):
                    disk.put(number, content[number * CHUNK : (number + 1) * CHUNK])
                lease.check()
                point = writer.commit(manifest_of([disk_of(disk.finish())], run_id=run))
            say(f"committed {point.point_id}")
            ids = tuple(DiskIds(each.slot, each.disk_id, each.rct_id or "") for each in point.disks)
            repository.catalog.publish_ids(point, PointIds(point.manifest.digest(), VM, "RP", ids))


def collect(repository: Repository, say: Callable[[str], None]) -> None:
    """Prune all points but some, and collect, for ever."""
    while True:
        repository.pruner.prune(repository.catalog.points(VM)[:-POINTS_KEPT])
        report = repository.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=4))
        say(f"collected {report.deleted_packs}")


def change_keys(repository: Repository, say: Callable[[str], None]) -> None:
    """Add and remove slots; the first one stays."""
    while True:
        added = repository.keys.add(Secret("second"), "second", cost=CHEAP)
        say("added")
        repository.keys.record_export()
        repository.keys.remove(added.slot_id)
        say("removed")


def work(
    say: Callable[[str], None],
    environment: dict[str, str],
    what: str,
    url: str,
    seed: int,
    cache_folder: Path,
    target: str,
) -> None:
    """Back up to ``url``, copy from it to ``target``, or change its keys; prints what is done."""
    os.environ.update(environment)
    with open_repository(url, key=KEY, cache_folder=cache_folder) as repository:
        say("working")
        if what == "backup":
            backup(repository, seed, say)
        elif what == "collect":
            collect(repository, say)
        elif what == "keys":
            change_keys(repository, say)
        else:
            with open_repository(target, key=KEY, cache_folder=cache_folder) as other:
                copy_points(
                    repository, other, on_progress=lambda point, *_: say(f"committed {point.point_id}")
                )
            say("done")
