"""Processes that back up, and others that prune and collect, side by side; SIGKILL at random moments.

After each kill of both, every point restores equal, and a verify finds nothing. At the end, a last collect
leaves nothing that no point needs. ``make soak`` does more rounds on a local folder.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import open_repository
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from tests.forked import PROCESSES
from tests.repository import crashing
from tests.repository.conftest import CHEAP, CHUNK, KEY, VM, content_of

SEED = int(os.environ.get("HVPS_SEED", "20261128"))
ROUNDS = {"local": 4, "s3": 2, "sftp": 2}
SOAK_ROUNDS = 60
MOST_SECONDS = {"local": 1.5, "s3": 3.0, "sftp": 3.0}


def new_url(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """URL of a new encrypted repository."""
    if kind == "s3":
        server = request.getfixturevalue("s3")
        url: str = server.url(server.new_bucket())
    elif kind == "sftp":
        url = request.getfixturevalue("ssh").url(folder / "repo")
    else:
        url = str(folder / "repo")
    create_on_store(open_store(url, create=True), ChunkGrid(CHUNK), key=KEY, cost=CHEAP).close()
    return url


def work_until_killed(dice: random.Random, kind: str, folder: Path, url: str) -> dict[str, list[str]]:
    """What a backup and a collect said until both were killed."""
    said: dict[str, list[str]] = {"backup": [], "collect": []}
    running = []
    for what, lines in said.items():
        ours, theirs = PROCESSES.Pipe(duplex=False)
        arguments = (theirs.send, dict(os.environ), what, url, SEED, folder / "cache", "")
        process = PROCESSES.Process(target=crashing.work, args=arguments)
        process.start()
        theirs.close()  # otherwise the output would not end with the process
        running.append((process, ours, lines))
    killers = []
    for process, ours, _ in running:
        assert ours.recv() == "working"
        killers.append(threading.Timer(dice.uniform(0.1, MOST_SECONDS[kind]), process.kill))
    for killer in killers:
        killer.start()
    for process, ours, lines in running:
        try:
            while True:
                lines.append(ours.recv())
        except EOFError:
            pass
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, lines
    return said


def check(url: str, folder: Path) -> int:
    """Check that the newest points are there, and equal; the number of the last one."""
    with open_repository(url, key=KEY, cache_folder=folder / "cache") as repository:
        points = repository.catalog.points(VM)
        numbers = [point.manifest.sequence for point in points]
        last = numbers[-1] if numbers else 0
        assert numbers == list(range(last - len(numbers) + 1, last + 1))
        assert len(numbers) >= min(last, crashing.POINTS_KEPT)
        for point in points:
            version = point.manifest.sequence - 1
            assert content_of(repository, point) == crashing.content_at(SEED, version)
        report = repository.verify("hashed")
        assert report.good, report.problems
        return last


def run_rounds(kind: str, folder: Path, request: pytest.FixtureRequest, rounds: int) -> None:
    dice = random.Random(f"{SEED} {kind} {rounds}")
    url, committed = new_url(kind, folder, request), 0
    for number in range(rounds):
        said = work_until_killed(dice, kind, folder, url)
        committed += sum(line.startswith("committed") for line in said["backup"])
        found = check(url, folder)
        # There may be one more than was said, if it was killed between commit and output.
        assert committed <= found <= committed + 1, f"round {number}"
        committed = found
    with open_repository(url, key=KEY, cache_folder=folder / "cache") as repository:
        repository.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=1 << 30))
    store = open_store(url)
    try:
        assert not list(store.list("doomed"))
        assert not list(store.list("runs"))
    finally:
        store.close()
    check(url, folder)


@pytest.mark.parametrize("kind", ROUNDS)
def test_backups_and_collects_killed_at_random_moments_lose_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run_rounds(kind, tmp_path, request, ROUNDS[kind])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_60_rounds_of_kills(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_rounds("local", tmp_path, request, SOAK_ROUNDS)
