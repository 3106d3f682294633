"""Writers, collectors, pruners, verifiers and restorers side by side, killed, suspended, and without power.

A seeded scheduler steps them at every operation on the store (see ``stepping``). A failure names its seed;
``HVPS_SEED=N`` repeats it.
"""

from __future__ import annotations

import logging
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.repository import packs, run_packs
from tests.repository.actors import Actors, Lost
from tests.repository.stepping import Scheduler

SEED = int(os.environ.get("HVPS_SEED", "20261127"))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small packs and index objects, so that a backup has several; no log, which would be long."""
    monkeypatch.setattr(packs, "PACK_ENTRIES", 3)
    monkeypatch.setattr(run_packs, "INDEX_ENTRIES", 4)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def play(seed: int, folder: Path, *, rounds: int = 4, press: tuple[str, ...] = ()) -> Counter[str]:
    """Some rounds, and a check after each and at the end; what was done."""
    scheduler = Scheduler(random.Random(seed), moments=press)
    with scheduler.in_charge():
        actors = Actors(scheduler, folder / str(seed))
        try:
            for _ in range(rounds):
                if press:
                    actors.start_press()
                else:
                    actors.start_round()
                scheduler.run()
                actors.check()
            scheduler.finish()
            actors.check()
            if not press:
                actors.check_last()
        except Lost as err:
            log = "\n".join(scheduler.log)
            raise Lost(f"seed {seed}: {err}\n{log}") from err
        except Exception as err:
            log = "\n".join(scheduler.log)
            raise AssertionError(f"seed {seed}: {err}\n{log}") from err
    return actors.counts


@pytest.mark.parametrize("part", range(4))
def test_nothing_kept_is_ever_collected(part: int, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEED + part * 25, SEED + part * 25 + 25):
        counts += play(seed, tmp_path, rounds=2)
    # Whether manifests of pruned points are deleted within two rounds is chance.
    assert all(counts[what] for what in ("deleted packs", "moved")), counts


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(8))
def test_a_thousand_rounds(part: int, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEED + 1000 + part * 25, SEED + 1000 + part * 25 + 25):
        counts += play(seed, tmp_path, rounds=5)
    sys.stdout.write(f"seeds from {SEED + 1000 + part * 25}: {dict(counts)}\n")
    assert counts["kept again"], counts
