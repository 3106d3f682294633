"""``hvps serve`` as a process: others read the disks, and a signal ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemu_images import assert_same_disk

from .conftest import Hvps, Served
from .world import World


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def serving(world: World, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A process that serves the latest point, and the URI of the first disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hvpsbridge", "serve", world.vm, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().split()[0]


def test_a_point_is_served_until_a_signal_comes(world: World, tmp_path: Path) -> None:
    assert world.run().code == 0
    repo = ("--repo", str(world.repository), *map(str, world.key))
    restored = tmp_path / "restored"
    done = world.hvps("restore", f"{world.vm}@latest", "--to", f"raw:{restored}", *repo)
    assert done.code == 0, done.err
    (raw,) = restored.iterdir()
    process, uri = serving(world, *repo)
    socket = Path(uri.partition("socket=")[2])
    assert_same_disk(uri, "raw", raw)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert not socket.exists()
    assert not socket.parent.exists()


def test_what_was_written_is_kept_as_a_qcow2_file(world: World, tmp_path: Path) -> None:
    assert world.run().code == 0
    repo = ("--repo", str(world.repository))
    raw = tmp_path / "restored"
    done = world.hvps("restore", f"{world.vm}@latest", "--to", f"raw:{raw}", *repo)
    assert done.code == 0, done.err
    before = world.snapshot()
    process, uri = serving(world, "--keep", str(tmp_path / "kept"), *repo)
    write = ["qemu-io", "-f", "raw", "-c", "write -P 7 64k 128k"]
    subprocess.run([*write, uri], check=True, capture_output=True, timeout=60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    subprocess.run([*write, raw / "scsi-0-0.raw"], check=True, capture_output=True, timeout=60)
    kept = tmp_path / "kept" / "scsi-0-0.qcow2"
    subprocess.run(["qemu-img", "check", "-q", kept], check=True, timeout=60)
    assert_same_disk(kept, "qcow2", raw / "scsi-0-0.raw")
    assert world.snapshot() == before
    again = world.hvps("serve", world.vm, "--keep", str(tmp_path / "kept"), *repo)
    assert (again.code, "exists" in again.err) == (5, True)
