"""Measures storing and restoring on each store, plain and encrypted: MB/s and CPU seconds per GB.

A disk of half text-like and half incompressible content is stored with the repository's writer and read back
in pack order, verified. Plain and encrypted runs alternate in changing order, so that other load affects
both; the cost of encryption is the median ratio of the pairs. S3 is moto and SFTP is sshd, in separate
processes on this machine: CPU seconds are those of hvps alone, and rates show what hvps can do, not what a
network does.

    python benchmarks/stores.py [--mib N] [--rounds N] [--stores local,sftp,s3]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import DEFAULT_CHUNK_BYTES, Repository
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.repository.stores.registry import open_store
from hvpsbridge.units import MIB
from tests.repository.conftest import CHEAP, KEY, disk_of, manifest_of
from tests.repository.servers import s3_server, ssh_server

MB = 1e6


@dataclass
class Cost:
    store_rate: float
    store_cpu: float
    restore_rate: float
    restore_cpu: float


def content(chunks: int, chunk_bytes: int) -> list[bytes]:
    dice = random.Random(1)
    made = []
    for number in range(chunks):
        if number % 2:
            made.append(dice.randbytes(chunk_bytes))
        else:
            words = [dice.randbytes(6).hex().encode() for _ in range(64)]
            made.append(
                b" ".join(dice.choices(words, k=chunk_bytes // 13 + 1))[:chunk_bytes].ljust(chunk_bytes)
            )
    return made


def measure(store: Store, disk: list[bytes], encrypted: bool) -> Cost:
    size = sum(map(len, disk))
    grid = ChunkGrid(DEFAULT_CHUNK_BYTES)
    with create_on_store(store, grid, key=KEY if encrypted else None, cost=CHEAP) as repository:
        store_seconds, store_cpu, point = timed(lambda: backup(repository, disk, size))
        image = repository.image(point, point.disks[0])
        restore_seconds, restore_cpu, total = timed(lambda: sum(len(data) for _, data in image.chunks()))
        assert total == size
    gigabytes = size / 1e9
    return Cost(
        size / MB / store_seconds, store_cpu / gigabytes, size / MB / restore_seconds, restore_cpu / gigabytes
    )


def timed(work):  # type: ignore[no-untyped-def]  # any callable without arguments
    wall, cpu = time.monotonic(), time.process_time()
    result = work()
    return time.monotonic() - wall, time.process_time() - cpu, result


def backup(repository: Repository, disk: list[bytes], size: int):  # type: ignore[no-untyped-def]  # a Point
    with repository.begin(uuid4()) as writer:
        target = writer.disk(size, None)
        for number, chunk in enumerate(disk):
            target.put(number, chunk)
        return writer.commit(manifest_of([disk_of(target.finish())]))


@contextlib.contextmanager
def places(kinds: list[str]) -> Iterator[dict[str, object]]:
    """By kind, a function that opens a new empty store."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made: dict[str, object] = {}
        if "local" in kinds:
            made["local"] = lambda: open_store(str(folder / uuid4().hex), create=True)
        if "sftp" in kinds:
            (folder / "ssh").mkdir()
            ssh = stack.enter_context(ssh_server(folder / "ssh"))
            made["sftp"] = lambda: open_store(ssh.url(folder / uuid4().hex), create=True)
        if "s3" in kinds:
            os.environ |= {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
            s3 = stack.enter_context(s3_server())
            made["s3"] = lambda: open_store(s3.url(s3.new_bucket()))
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--stores", default="local,sftp,s3")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: quartiles need two")
    disk = content(options.mib * MIB // DEFAULT_CHUNK_BYTES, DEFAULT_CHUNK_BYTES)
    print(f"{options.mib} MiB, chunks of {DEFAULT_CHUNK_BYTES} bytes, median of {options.rounds} rounds")
    print("store  seal       store MB/s  CPU s/GB   restore MB/s  CPU s/GB")
    with places(options.stores.split(",")) as made:
        for kind, new in made.items():
            costs: dict[bool, list[Cost]] = {False: [], True: []}
            measure(new(), disk[: len(disk) // 8], True)  # type: ignore[operator]  # gives a store; warms up
            for number in range(options.rounds):
                for encrypted in (False, True) if number % 2 == 0 else (True, False):
                    costs[encrypted].append(measure(new(), disk, encrypted))  # type: ignore[operator]  # as above
            for encrypted, found in costs.items():
                row = [
                    statistics.median(getattr(cost, name) for cost in found) for name in Cost.__annotations__
                ]
                print(
                    f"{kind:6} {'encrypted' if encrypted else 'plain':9} {row[0]:10.0f} {row[1]:9.2f} "
                    f"{row[2]:14.0f} {row[3]:9.2f}",
                    flush=True,
                )
            plain, encrypted_costs = costs[False], costs[True]
            for name, label in (("store_cpu", "storing"), ("restore_cpu", "restoring")):
                ratios = [
                    getattr(b, name) / getattr(a, name) for a, b in zip(plain, encrypted_costs, strict=True)
                ]
                low, middle, high = (quartile - 1 for quartile in statistics.quantiles(ratios, n=4))
                print(
                    f"       encryption costs {middle:6.1%} more CPU when {label} "
                    f"(half of the pairs between {low:.1%} and {high:.1%})"
                )


if __name__ == "__main__":
    main()
