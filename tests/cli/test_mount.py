"""``hvps mount`` as a process: its files are the disks, and it ends on a signal."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from hvpsbridge.repository import create_repository
from hvpsbridge.units import MIB
from tests.filesystems import images
from tests.filesystems.images import tool
from tests.filesystems.test_lvm import BIG, untarred
from tests.qemu_images import assert_same_disk
from tests.repository.conftest import store_disks, store_point

from .conftest import Hvps, Served
from .world import World

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) and not os.environ.get("CI"), reason="needs /dev/fuse"
)


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    assert made.run().code == 0
    return made


def mounted(world: World, folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return mounted_point(world.vm, world.repository, folder)


@contextmanager
def mounted_point(
    point: str,
    repository: Path,
    folder: Path,
    program: tuple[str, ...] = ("-m", "hvpsbridge"),
    options: tuple[str, ...] = (),
) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, *program, "mount", point, folder, "--repo", repository, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        until = time.monotonic() + 60
        while not folder.is_mount() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert folder.is_mount(), process.communicate()
        yield process
    finally:
        process.kill()
        process.wait()
        subprocess.run(["fusermount3", "-u", "-q", "-z", folder], check=False)


def test_the_disks_are_there_as_raw_images_and_vhdx_files(world: World, tmp_path: Path) -> None:
    done = world.hvps("restore", world.vm, "--to", f"raw:{tmp_path}/r", "--repo", str(world.repository))
    assert done.code == 0, done.err
    raw = tmp_path / "r" / "scsi-0-0.raw"
    folder = tmp_path / "mounted"
    with mounted(world, folder) as process:
        assert sorted(os.listdir(folder)) == ["scsi-0-0.raw", "scsi-0-0.vhdx"]
        assert (folder / "scsi-0-0.raw").read_bytes() == raw.read_bytes()
        assert_same_disk(folder / "scsi-0-0.vhdx", "vhdx", raw)
        with pytest.raises(OSError, match="Read-only file system"):
            os.truncate(folder / "scsi-0-0.raw", 1)
        with pytest.raises(OSError, match=r"Read-only file system|Permission denied"):
            (folder / "new").touch()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        # libfuse 3.14 says something about threads that nobody asked for.
        assert (process.returncode, "hvps" in err) == (0, False), (out, err)
        assert not folder.is_mount()


# As if the libraries of file systems were not installed.
WITHOUT_LIBRARIES = """
import runpy
from hvpsbridge.filesystems import client
client._LIBRARIES = ("not_installed_here",)
runpy.run_module("hvpsbridge", run_name="__main__")
"""


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_partitions_are_files_too(label: str, tmp_path: Path) -> None:
    parts = []
    for number, size in enumerate((2 * MIB, 3 * MIB)):
        parts.append(tmp_path / f"part{number}")
        parts[-1].write_bytes(random.Random(number).randbytes(size))
    disk = images.partitioned(tmp_path / "disk", label, parts)
    with create_repository(str(tmp_path / "repo")) as repository:
        store_point(repository, disk.read_bytes())
    folder = tmp_path / "mounted"
    names = ["scsi-0-0-p1.raw", "scsi-0-0-p2.raw", "scsi-0-0.raw", "scsi-0-0.vhdx"]
    with mounted_point("web", tmp_path / "repo", folder):
        assert sorted(os.listdir(folder)) == names
        for name, part in zip(names[:2], parts, strict=True):
            assert (folder / name).read_bytes() == part.read_bytes()
    without = tmp_path / "without"
    with mounted_point("web", tmp_path / "repo", without, ("-c", WITHOUT_LIBRARIES)) as process:
        assert sorted(os.listdir(without)) == names[2:]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert "partitions of disk scsi 0:0 are not shown" in err
        assert "hvpsbridge[files]" in err


def test_logical_volumes_are_files_too(tmp_path: Path) -> None:
    several = untarred("lvm-several", tmp_path)
    thin = untarred("lvm-kinds", tmp_path)[0]
    with create_repository(str(tmp_path / "repo")) as repository:
        disks = [images.partitioned(tmp_path / "disk", "gpt", [several[0], thin]), *several[1:]]
        store_disks(repository, disks)
    folder = tmp_path / "mounted"
    volumes = {"root": 14, "other": 2, "striped": 8, "second": 3}
    with mounted_point("web", tmp_path / "repo", folder) as process:
        logical = {f"lvm-vg--a-{name}.raw": size * MIB for name, size in volumes.items()}
        logical["lvm-kinds-plain.raw"] = 2 * MIB
        assert {name for name in os.listdir(folder) if name.startswith("lvm-")} == set(logical)
        for name, size in logical.items():
            assert (folder / name).stat().st_size == size
        # Its own tool reads it: a volume over two disks, and one in stripes.
        for name in ("root", "striped"):
            done = tool("debugfs", "-R", "cat /deep/er/big.bin", folder / f"lvm-vg--a-{name}.raw")
            assert done == BIG
            tool("e2fsck", "-fn", folder / f"lvm-vg--a-{name}.raw")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert re.search("logical volume kinds/thin is not shown: it is a thin volume", err)
    with mounted_point("web", tmp_path / "repo", tmp_path / "one", options=("--disk", "1")) as process:
        assert sorted(os.listdir(tmp_path / "one")) == ["scsi-0-1.raw", "scsi-0-1.vhdx"]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert "logical volume vg-a/root is not shown: its physical volume pv0" in err


def test_a_repository_that_goes_away_is_an_io_error_and_comes_back(world: World, tmp_path: Path) -> None:
    folder, away = tmp_path / "mounted", tmp_path / "away"
    with mounted(world, folder) as process:
        data = world.repository / "data"
        shutil.move(data, away)
        with pytest.raises(OSError, match="Input/output error"):
            (folder / "scsi-0-0.raw").read_bytes()
        shutil.move(away, data)
        with (folder / "scsi-0-0.raw").open("rb") as file:
            assert len(file.read(4096)) == 4096
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        # Its start was read already, in search of partitions.
        assert re.search(r"scsi-0-0.raw: bytes \d+ to \d+ cannot be read", err)


def test_a_folder_that_is_not_empty_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    repo = ("--repo", str(world.repository))
    done = world.hvps("mount", world.vm, tmp_path / "full", *repo)
    assert (done.code, "is not empty" in done.err) == (5, True)
    done = world.hvps("mount", world.vm, tmp_path / "nowhere", *repo)
    assert (done.code, "No such file" in done.err) == (5, True)
