"""Whether a restored VM of generation 2 has the boot loader that firmware starts by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.filesystems import client
from hvpsbridge.tasks.restore.boot_loader import boot_loader_notes
from hvpsbridge.units import KIB, MIB
from tests.tasks.world import SLOT, World

SCSI = "scsi 0:0"


def volume(folder: Path, *files: str) -> Path:
    """A FAT file system with empty files."""
    image = folder / "volume.raw"
    with image.open("wb") as made:
        made.truncate(24 * MIB)
    subprocess.run(["mkfs.vfat", image], check=True, capture_output=True, timeout=60)
    for file in files:
        parts = file.split("/")
        for depth in range(1, len(parts)):
            folder_name = "::" + "/".join(parts[:depth])
            subprocess.run(["mmd", "-i", image, folder_name], check=True, capture_output=True, timeout=60)
        subprocess.run(["mcopy", "-i", image, "/dev/null", f"::{file}"], check=True, timeout=60)
    return image


def backed_up(world: World, image: Path, **settings: object) -> UUID:
    vm_id = world.vm(disks=(), **settings)
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=24 * MIB, block_bytes=MIB)
    content = image.read_bytes()
    for offset in range(0, len(content), 64 * KIB):
        piece = content[offset : offset + 64 * KIB]
        if piece.strip(b"\0"):
            world.model.guests.write(vm_id, SLOT, offset, piece)
    world.good_backup(vm_id)
    return vm_id


@pytest.mark.parametrize(
    ("files", "said"),
    [(("efi/Boot/bootx64.EFI",), 0), (("EFI/debian/shimx64.efi",), 1), ((), 1)],
)
def test_a_vm_without_the_default_boot_loader_is_named(
    world: World, tmp_path: Path, files: tuple[str, ...], said: int
) -> None:
    vm_id = backed_up(world, volume(tmp_path, *files))
    point = world.repository.catalog.points(vm_id)[0]
    notes = boot_loader_notes(world.repository, point, {SCSI})
    assert len(notes) == said
    assert all("BOOTX64.EFI" in note for note in notes)
    assert boot_loader_notes(world.repository, point, {"scsi 0:9"})


def test_generation_1_needs_none(world: World, tmp_path: Path) -> None:
    vm_id = backed_up(world, volume(tmp_path), generation=1)
    point = world.repository.catalog.points(vm_id)[0]
    assert boot_loader_notes(world.repository, point, {SCSI}) == ()


def test_without_the_libraries_a_note_says_so(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = backed_up(world, volume(tmp_path))
    point = world.repository.catalog.points(vm_id)[0]
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    (note,) = boot_loader_notes(world.repository, point, {SCSI})
    assert "hvpsbridge[files]" in note
