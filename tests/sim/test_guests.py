"""Guest disks are real, change as guests change them, and checks find what is wrong."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from hvpsbridge.errors import ToolMissing
from hvpsbridge.sim import guests
from hvpsbridge.sim.guests import DiskState, GuestDisk, PartitionPlan, check_disk, images_equal, tools
from hvpsbridge.sim.guests.disks import load_lists
from hvpsbridge.sim.guests.files import DATABASE
from hvpsbridge.sim.guests.partitions import extract, read_table
from hvpsbridge.sim.guests.tools import run_tool
from hvpsbridge.units import MIB

SEED = 20260301
FILES = 220


def plan(file_system: str) -> PartitionPlan:
    return PartitionPlan(file_system, size_bytes=64 * MIB, files=FILES, data_bytes=6 * MIB)


def usable(name: str) -> None:
    """Skips where a mount is forbidden; a program that is not installed fails in CI."""
    reason = guests.usable_file_systems()[name]
    if "install the Debian package" in reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module", params=["ext4", "fat32", "ntfs"])
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DiskState, DiskState, DiskState]:
    """Three states of a disk with one partition."""
    usable(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    disk = GuestDisk(folder / "disk", [plan(request.param)], seed=SEED)
    first = disk.state
    return first, disk.keep_running(seed=SEED + 1), disk.keep_running(seed=SEED + 2)


@pytest.fixture(scope="module")
def ext4_disk(tmp_path_factory: pytest.TempPathFactory) -> DiskState:
    usable("ext4")
    return GuestDisk(tmp_path_factory.mktemp("ext4-only") / "disk", [plan("ext4")], seed=SEED).state


def damaged(state: DiskState, scratch: Path, offset: int, data: bytes) -> DiskState:
    copy = scratch / "damaged.raw"
    shutil.copyfile(state.image, copy)
    with copy.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return DiskState(copy, state.file_lists, state.files)


def where(state: DiskState, needle: bytes) -> int:
    with state.image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        found = whole.find(needle)
    assert found > 0
    return found


def test_every_state_of_a_disk_is_clean_and_holds_every_file(
    history: tuple[DiskState, ...], tmp_path: Path
) -> None:
    for state in history:
        check = check_disk(state.image, state.file_lists, scratch=tmp_path)
        assert check.good, check
        assert check.files == state.files >= FILES - FILES // 10


def test_a_newer_state_has_the_same_size_and_changes_files_of_every_kind(
    history: tuple[DiskState, ...],
) -> None:
    for older, newer in pairwise(history):
        assert older.image.stat().st_size == newer.image.stat().st_size
        (before,), (after,) = load_lists(older.file_lists), load_lists(newer.file_lists)
        assert before.keys() - after.keys()
        assert after.keys() - before.keys()
        assert [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert before[DATABASE].size_bytes == after[DATABASE].size_bytes
        assert before[DATABASE] != after[DATABASE]


def test_a_newer_state_leaves_most_of_the_disk_alone(history: tuple[DiskState, ...]) -> None:
    older, newer = history[0].image.read_bytes(), history[1].image.read_bytes()
    pages = range(0, len(older), 4096)
    held = sum(1 for at in pages if any(older[at : at + 4096]))
    changed = sum(1 for at in pages if older[at : at + 4096] != newer[at : at + 4096])
    assert 0 < changed < held / 2


def test_a_state_judged_by_the_list_of_another_moment_differs(
    history: tuple[DiskState, ...], tmp_path: Path
) -> None:
    check = check_disk(history[1].image, history[0].file_lists, scratch=tmp_path)
    assert not check.good
    assert check.different
    assert not check.unclean


def test_one_flipped_byte_in_one_file_is_found(history: tuple[DiskState, ...], tmp_path: Path) -> None:
    first = history[0]
    source = first.image.parent / "files-0" / DATABASE
    # A page that later states left alone, so that the folder still has the first state's bytes.
    data = source.read_bytes()
    page = next(
        data[at : at + 512]
        for at in range(0, len(data), 8192)
        if data[at : at + 512] in first.image.read_bytes()
    )
    at = where(first, page)
    bad = damaged(first, tmp_path, at + 100, bytes([page[100] ^ 1]))
    check = check_disk(bad.image, bad.file_lists, scratch=tmp_path)
    assert check.different == (f"{check.file_systems[0]}: {DATABASE} has other contents",)
    assert check.files == first.files - 1
    assert images_equal(first.image, bad.image).endswith(
        f"byte {at + 101}, line {_line(first.image, at + 100)}"
    )


def _line(image: Path, offset: int) -> int:
    with image.open("rb") as file:
        return file.read(offset).count(b"\n") + 1


def test_damaged_metadata_is_unclean(ext4_disk: DiskState, tmp_path: Path) -> None:
    (part,) = read_table(ext4_disk.image)
    shown = run_tool("debugfs", "-R", "imap <2>", f"{ext4_disk.image}?offset={part.offset_bytes}").stdout
    block = int(shown.split(b"located at block ")[1].split(b",")[0])
    bad = damaged(ext4_disk, tmp_path, part.offset_bytes + block * 4096 + 256 + 40, bytes(60))
    check = check_disk(bad.image, bad.file_lists, scratch=tmp_path)
    assert check.unclean
    assert not check.good


def test_a_damaged_copy_of_the_partition_table_is_unclean(ext4_disk: DiskState, tmp_path: Path) -> None:
    bad = damaged(ext4_disk, tmp_path, ext4_disk.image.stat().st_size - 512 + 40, b"\xff")
    assert "is damaged" in check_disk(bad.image, bad.file_lists, scratch=tmp_path).unclean[0]


def test_a_file_of_an_ext4_guest_is_right_only_after_journal_replay(
    ext4_disk: DiskState, tmp_path: Path
) -> None:
    (part,) = read_table(ext4_disk.image)
    extract(ext4_disk.image, part, tmp_path / "single")
    (tmp_path / "unreplayed").mkdir()
    run_tool("debugfs", "-R", f'rdump / "{tmp_path / "unreplayed"}"', tmp_path / "single")
    (expected,) = load_lists(ext4_disk.file_lists)
    stale = [
        name
        for name, entry in expected.items()
        if hashlib.sha256((tmp_path / "unreplayed" / name).read_bytes()).hexdigest() != entry.sha256
    ]
    assert len(stale) == 1


def test_the_partition_table_is_read_alike_by_util_linux(tmp_path: Path) -> None:
    for name in ("ext4", "fat32"):
        usable(name)
    disk = GuestDisk(tmp_path / "disk", [plan("ext4"), plan("fat32")], seed=SEED, size_bytes=140 * MIB)
    seen = subprocess.run(
        ["partx", "--raw", "--noheadings", "--output", "START,SECTORS,NAME,TYPE", str(disk.state.image)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert seen.split() == [
        *("2048", "131072", "ext4", "0fc63daf-8483-4772-8e79-3d69d8477de4"),
        *("133120", "131072", "fat32", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"),
    ]
    check = check_disk(disk.state.image, disk.state.file_lists, scratch=tmp_path)
    assert check.good
    assert check.file_systems == ("ext4", "fat32")


def test_partitions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        GuestDisk(tmp_path / "disk", [plan("ext4")], seed=SEED, size_bytes=32 * MIB)


def test_the_same_seed_gives_the_same_files(ext4_disk: DiskState, tmp_path: Path) -> None:
    again = GuestDisk(tmp_path / "again", [plan("ext4")], seed=SEED).state
    assert load_lists(again.file_lists) == load_lists(ext4_disk.file_lists)
    other = GuestDisk(tmp_path / "other", [plan("ext4")], seed=SEED + 9).state
    assert load_lists(other.file_lists) != load_lists(ext4_disk.file_lists)


def test_a_missing_program_is_one_error_that_names_the_debian_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "_FOLDERS", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"mke2fs; install the Debian package e2fsprogs"):
        GuestDisk(tmp_path / "disk", [plan("ext4")], seed=SEED)
    assert (
        "mtools" in guests.usable_file_systems()["fat32"]
        or "dosfstools" in guests.usable_file_systems()["fat32"]
    )


def test_disks_of_different_size_are_not_equal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"123")
    assert images_equal(tmp_path / "a", tmp_path / "b") == "2 bytes instead of 3"
