"""ext4 in a file: created by ``mke2fs -d``, changed in place by ``debugfs -w``, checked by ``e2fsck``.

The disk of a running guest has a journal that the next mount replays. To create one, the first block of one
file is written to the journal only (debugfs ``journal_write``): the data block has the old bytes, and the
file has its SHA-256 only after a replay, as after a power failure with ``data=journal``.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid5

from hvpsbridge.errors import ToolFailed
from hvpsbridge.sim.guests.files import Change
from hvpsbridge.sim.guests.partitions import LINUX_DATA
from hvpsbridge.sim.guests.tools import find_tool, run_tool, said

BLOCK_BYTES = 4096
_NAMES = UUID("2f9d5c0e-2b2e-4a83-8a43-4fd0f61d9c11")
# debugfs prints its version on standard error. Anything else there is an error; its exit status is 0.
_VERSION_LINE = b"debugfs "


@dataclass(frozen=True, slots=True)
class Ext4:
    """The file system of Linux guests, with journal and metadata checksums."""

    name: str = "ext4"
    partition_type: UUID = LINUX_DATA

    def unavailable(self) -> str:
        for tool in ("mke2fs", "debugfs", "e2fsck"):
            find_tool(tool)
        return ""

    def make(self, partition: Path, folder: Path, *, seed: int) -> None:
        own_id = uuid5(_NAMES, str(seed))
        run_tool(
            *("mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK_BYTES), "-L", "guest"),
            *("-U", str(own_id), "-E", f"hash_seed={own_id},lazy_itable_init=1,root_owner=0:0"),
            *("-d", folder, partition),
        )
        self._leave_in_journal(partition, folder, random.Random(seed), exclude=())

    def change(self, partition: Path, folder: Path, change: Change, *, seed: int) -> None:
        run_tool("e2fsck", "-E", "journal_only", "-y", partition, accept=(0, 1))
        commands: list[str] = []
        for path in (*change.deleted, *change.replaced):
            commands.append(f'rm "/{path}"')
        for path in change.folders:
            commands.append(f'mkdir "/{path}"')
        for path in (*change.replaced, *change.added):
            place = PurePosixPath("/", path)
            commands += [f'cd "{place.parent}"', f'write "{folder / path}" "{place.name}"']
        _debugfs(partition, commands, write=True)
        for path, spans in change.patched.items():
            _overwrite(partition, folder, path, spans)
        touched = {*change.replaced, *change.added, *change.patched}
        self._leave_in_journal(partition, folder, random.Random(seed), exclude=touched)

    def check(self, partition: Path) -> tuple[str, ...]:
        with tempfile.TemporaryDirectory(dir=partition.parent) as scratch:
            copy = self._replayed(partition, Path(scratch))
            done = run_tool("e2fsck", "-f", "-n", copy, accept=range(256))
        # 0: no errors. 4: errors left. 8 and above: the check itself failed. -n corrects nothing.
        return () if done.returncode == 0 else (f"e2fsck ended with {done.returncode}: {said(done)}",)

    def read_out(self, partition: Path, into: Path) -> None:
        into.mkdir()
        with tempfile.TemporaryDirectory(dir=partition.parent) as scratch:
            copy = self._replayed(partition, Path(scratch))
            # Without root, debugfs cannot set owners and prints errors. The contents are complete; if not,
            # the hashes of the files differ.
            run_tool("debugfs", "-R", f'rdump / "{into}"', copy)
        shutil.rmtree(into / "lost+found", ignore_errors=True)

    @staticmethod
    def _replayed(partition: Path, scratch: Path) -> Path:
        """A copy of the partition with its journal replayed, in which e2fsck may have corrected something."""
        copy = scratch / "replayed"
        run_tool("cp", "--sparse=always", "--reflink=auto", partition, copy)
        run_tool("e2fsck", "-E", "journal_only", "-y", copy, accept=(0, 1))
        return copy

    @staticmethod
    def _leave_in_journal(partition: Path, folder: Path, rng: random.Random, exclude: Iterable[str]) -> None:
        """Change the first block of one file in the folder, and in the journal of the disk."""
        candidates = sorted(
            path
            for path in folder.rglob("*")
            if path.is_file()
            and BLOCK_BYTES <= path.stat().st_size < 64 * BLOCK_BYTES
            and path.relative_to(folder).as_posix() not in set(exclude)
        )
        if not candidates:
            return
        chosen = rng.choice(candidates)
        data = rng.randbytes(BLOCK_BYTES)
        block = _blocks(partition, chosen.relative_to(folder).as_posix())[0]
        if block == 0:  # a hole: nothing on disk to overwrite
            return
        with chosen.open("r+b") as file:
            file.write(data)
        with tempfile.NamedTemporaryFile(dir=partition.parent) as record:
            record.write(data)
            record.flush()
            _debugfs(
                partition,
                ["journal_open", f"journal_write -b {block} {record.name}", "journal_close"],
                write=True,
            )


def _debugfs(partition: Path, commands: list[str], *, write: bool = False) -> bytes:
    """Run debugfs commands. Returns standard output.

    Raises:
        ToolFailed: a command failed.
    """
    with tempfile.NamedTemporaryFile("w", dir=partition.parent, encoding="utf-8") as script:
        script.write("".join(f"{command}\n" for command in commands))
        script.flush()
        done = run_tool("debugfs", *(("-w",) if write else ()), "-f", script.name, partition)
    for line in done.stderr.splitlines():
        if line.strip() and not line.startswith(_VERSION_LINE):
            raise ToolFailed(tool="debugfs", status=done.returncode, said=line.decode(errors="replace"))
    return done.stdout


def _blocks(partition: Path, path: str) -> list[int]:
    """Block numbers of a file in order; 0 is a hole."""
    shown = run_tool("debugfs", "-R", f'blocks "/{path}"', partition).stdout
    return [int(number) for number in shown.split()]


def _overwrite(partition: Path, folder: Path, path: str, spans: Iterable[tuple[int, int]]) -> None:
    """Write parts of a file to its data blocks, as a guest that changes it in place."""
    blocks = _blocks(partition, path)
    with (folder / path).open("rb") as reads, partition.open("r+b") as writes:
        for offset, length in spans:
            for index in range(offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)):
                reads.seek(index * BLOCK_BYTES)
                writes.seek(blocks[index] * BLOCK_BYTES)
                writes.write(reads.read(BLOCK_BYTES))
