"""Disks for benchmarks: half of the data is compressible, and a day changes pages at random places."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from hvpsbridge.units import KIB, MIB

_PAGE_BYTES = 4 * KIB
# Writes of a day come in runs of this many pages.
_RUN_PAGES = 16
_PIECE_BYTES = 16 * KIB


def fill(path: Path, size_bytes: int, seed: int) -> None:
    """Write a raw disk full of data: alternating MiB of random and of text-like bytes."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 9)).hex().encode() for _ in range(2000)]
    text = b" ".join(rng.choices(words, k=MIB))
    with path.open("wb") as file:
        for _ in range(0, size_bytes, 2 * MIB):
            file.write(rng.randbytes(MIB))
            for _ in range(MIB // _PIECE_BYTES):  # pieces from anywhere: no chunk is like another
                start = rng.randrange(len(text) - _PIECE_BYTES)
                file.write(text[start : start + _PIECE_BYTES])
        file.truncate(size_bytes)


def sparse(path: Path, size_bytes: int, data_bytes: int, seed: int) -> None:
    """Write a raw disk that is mostly a hole, with evenly spread MiB of random data."""
    rng = random.Random(seed)
    islands = data_bytes // MIB
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for number in range(islands):
            file.seek(size_bytes // islands * number // MIB * MIB)
            file.write(rng.randbytes(MIB))


def day_later(path: Path, newer: Path, share: float, seed: int) -> int:
    """Write a copy with a share of its pages changed, in runs of 64 KiB at random places; bytes changed."""
    rng = random.Random(seed)
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(path), str(newer)], check=True)
    run = _PAGE_BYTES * _RUN_PAGES
    places = range(0, path.stat().st_size - run, run)
    chosen = rng.sample(places, max(1, int(path.stat().st_size * share) // run))
    with newer.open("r+b") as file:
        for at in sorted(chosen):
            file.seek(at)
            file.write(rng.randbytes(run))
    return len(chosen) * run
