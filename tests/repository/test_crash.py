"""SIGKILL at random moments, and power loss: what was committed remains, and the next run continues.

A process that backs up, copies or changes keys is killed at a random moment. After that, every point that it
reported as committed restores byte for byte, verification finds nothing, and the same work starts again and
makes progress. Power loss is simulated in this process with the volatile store, at every write. These are
samples; ``make soak`` kills 300 processes of each kind.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path

import pytest

from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import Repository, open_repository
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from tests.forked import PROCESSES
from tests.repository import crashing
from tests.repository.conftest import CHEAP, CHUNK, KEY, VM, content_of, make, reopen, store_point
from tests.repository.hostile import VolatileStore
from tests.repository.memory_store import MemoryStore
from tests.repository.servers import S3Server

SEED = int(os.environ.get("HVPS_SEED", "20261122"))
KILLS = {"local": 3, "s3": 2}
SOAK_KILLS = 300
# How long a process works before it is killed; a local backup commits about every 0.1 s.
MAX_SECONDS = {"local": 0.7, "s3": 1.5}


class Place:
    """Repositories at new URLs of one kind of store."""

    def __init__(self, kind: str, folder: Path, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self.folder = folder
        self._s3: S3Server | None = request.getfixturevalue("s3") if kind == "s3" else None
        self._count = 0

    def new(self) -> str:
        """URL of a new encrypted repository."""
        self._count += 1
        url = str(self.folder / f"repo{self._count}")
        if self._s3 is not None:
            url = self._s3.url(self._s3.new_bucket())
        create_on_store(open_store(url, create=True), ChunkGrid(CHUNK), key=KEY, cost=CHEAP).close()
        return url


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path, request)


def killed(dice: random.Random, place: Place, what: str, url: str, target: str = "") -> list[str]:
    """The output of a process that is killed at a random moment."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    # The environment has the keys of the store; the forking process may be older than they are.
    arguments = (theirs.send, dict(os.environ), what, url, SEED, place.folder / "cache", target)
    process = PROCESSES.Process(target=crashing.work, args=arguments)
    process.start()
    theirs.close()  # otherwise the output would not end with the process
    said: list[str] = []
    killer = threading.Timer(dice.uniform(0, MAX_SECONDS[place.kind]), process.kill)
    try:
        assert ours.recv() == "working"
        killer.start()
        while True:
            said.append(ours.recv())
    except EOFError:
        pass
    process.join(120)
    killer.cancel()
    assert process.exitcode in (-signal.SIGKILL, 0), said
    return said


def check_versions(repository: Repository) -> int:
    """Check that every point has the content of its version; how many points there are."""
    points = repository.catalog.points(VM)
    for version, point in enumerate(points):
        assert point.manifest.sequence == version + 1
        assert content_of(repository, point) == crashing.content_at(SEED, version)
    report = repository.verify("hashed")
    assert report.good, report.problems
    return len(points)


def run_backups(place: Place, kills: int, dice: random.Random) -> int:
    url, committed = place.new(), 0
    for number in range(kills):
        said = killed(dice, place, "backup", url)
        committed += sum(line.startswith("committed") for line in said)
        with open_repository(url, key=KEY, cache_folder=place.folder / "cache") as repository:
            # There may be one more than was printed, if it was killed between commit and output.
            found = check_versions(repository)
            assert committed <= found <= committed + 1, f"kill {number}"
            committed = found
        if committed > 12:  # every check reads all of them
            url, committed = place.new(), 0
    return committed


def run_copies(place: Place, kills: int, dice: random.Random) -> None:
    source = place.new()
    with open_repository(source, key=KEY, cache_folder=place.folder / "cache") as repository:
        base = None
        for version in range(4):
            content = crashing.content_at(SEED, version)
            changed = crashing.changed_at(SEED, version) if base else None
            base = store_point(repository, content, base=base, changed=changed)
    done, target = 0, place.new()
    while done < kills:
        said = killed(dice, place, "copy", source, target)
        done += 1
        with open_repository(target, key=KEY, cache_folder=place.folder / "cache") as repository:
            assert check_versions(repository) >= sum("committed" in line for line in said)
        if said[-1:] == ["done"]:
            target = place.new()


def run_key_changes(place: Place, kills: int, dice: random.Random) -> None:
    url = place.new()
    with open_repository(url, key=KEY, cache_folder=place.folder / "cache") as repository:
        point = store_point(repository, content := crashing.content_at(SEED, 0))
    for _ in range(kills):
        killed(dice, place, "keys", url)
        with open_repository(url, key=KEY, cache_folder=place.folder / "cache") as repository:
            assert repository.keys.damaged_slots() == []
            # Each kill may leave the slot that was being changed; it can be used and removed.
            for slot in repository.keys.slots():
                if slot.label == "second":
                    repository.keys.remove(slot.slot_id)
            assert [slot.label for slot in repository.keys.slots()] == ["first"]
            assert content_of(repository, point) == content


def test_backups_killed_at_random_moments_lose_nothing(place: Place) -> None:
    run_backups(place, KILLS[place.kind], random.Random(f"{SEED} backup {place.kind}"))


def test_copies_killed_at_random_moments_are_taken_up(place: Place) -> None:
    run_copies(place, KILLS[place.kind], random.Random(f"{SEED} copy {place.kind}"))


def test_key_changes_killed_at_random_moments_leave_the_repository_open(place: Place) -> None:
    run_key_changes(place, KILLS[place.kind], random.Random(f"{SEED} keys {place.kind}"))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("work", [run_backups, run_copies, run_key_changes], ids=lambda work: work.__name__)
def test_300_kills(place: Place, work: object) -> None:
    sys.stdout.write(f"seed {SEED}, {SOAK_KILLS} kills\n")
    work(place, SOAK_KILLS, random.Random(f"{SEED} soak"))  # type: ignore[operator]  # one of three functions


class PowerLost(Exception):
    """The power is lost at this write."""


class Dying(VolatileStore):
    """A volatile store that loses power at the nth change."""

    left = 1 << 30

    def put(self, name: str, data: bytes) -> None:
        self._step()
        super().put(name, data)

    def delete(self, name: str) -> None:
        self._step()
        super().delete(name)

    def commit_barrier(self) -> None:
        self._step()
        super().commit_barrier()

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerLost


def lose_power_at(step: int, seed: int) -> tuple[MemoryStore, list[bytes], bool]:
    """A repository after a power loss at a step of its third backup, and the contents committed before."""
    store = Dying(random.Random(f"{seed} {step}"))
    contents = [crashing.content_at(1, version)[: 40 * CHUNK] for version in range(3)]
    make(store, sealed=bool(step % 2)).close()
    with reopen(store) as repository:
        base = None
        for content in contents[:2]:
            base = store_point(repository, content, base=base)
    store.left = step
    try:
        with reopen(store) as repository:
            store_point(repository, contents[2], base=base, created=base.created.replace(hour=9))
            finished = True
    except PowerLost:
        finished = False
    store.left = 1 << 30
    return store.lose_power(), contents[: 3 if finished else 2], finished


def check_power_loss(step: int, seed: int) -> bool:
    store, contents, finished = lose_power_at(step, seed)
    with reopen(store) as repository:
        points = repository.catalog.points(VM)
        found = [content_of(repository, point) for point in points]
        assert found[: len(contents)] == contents
        # A third manifest that reached the disk just before the power loss is a complete point.
        assert found[len(contents) :] in ([], [crashing.content_at(1, 2)[: 40 * CHUNK]])
        report = repository.verify("hashed")
        # Packs and index objects that no point needs may be incomplete; no point may need what is gone.
        assert not [problem for problem in report.problems if problem.touches]
        again = store_point(repository, contents[0], created=points[-1].created.replace(hour=11))
        assert content_of(repository, again) == contents[0]
    return finished


def test_power_loss_at_every_write_of_a_backup_loses_nothing_committed() -> None:
    step = 0
    while not check_power_loss(step, SEED):
        step += 1
    assert step > 10  # every write and barrier of a backup was tried


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_power_loss_with_100_orders_of_each_write() -> None:
    for seed in range(100):
        for step in range(25):
            check_power_loss(step, SEED + seed)
