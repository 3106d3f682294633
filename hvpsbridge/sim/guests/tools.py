"""External programs that make, change and examine guest file systems, and how they are called.

Everything here runs as an ordinary user on plain files. A program that is missing is one error that
names its Debian package; a program that fails is one error with what it said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from hvpsbridge.errors import ToolFailed, ToolMissing

PACKAGES = {
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "fsck.vfat": "dosfstools",
    "mcopy": "mtools",
    "mdel": "mtools",
    "mmd": "mtools",
    "mdeltree": "mtools",
    "mkntfs": "ntfs-3g",
    "ntfs-3g": "ntfs-3g",
    "ntfsfix": "ntfs-3g",
    "unshare": "util-linux",
    "mountpoint": "util-linux",
}

# Debian keeps the makers and checkers of file systems where an ordinary user's PATH does not look.
_FOLDERS = os.pathsep.join(("/usr/sbin", "/sbin"))

# A wall clock in a file system would make two disks of one seed differ: 2026-01-01T00:00:00Z.
FIXED_TIME = 1_767_225_600

_DEADLINE_SECONDS = 600
# What a failed program said is quoted up to here.
_QUOTE_CHARACTERS = 400
# Arguments per call, far below the kernel's limit for one command line.
_BATCH = 200


def find_tool(name: str) -> str:
    """Path of an external program.

    Raises:
        ToolMissing: it is not installed; the error names the Debian package.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + os.pathsep + _FOLDERS)
    if found is None:
        raise ToolMissing(tool=name, package=PACKAGES.get(name, name), purpose="working on guest disks")
    return found


def run_tool(
    name: str,
    *arguments: str | Path,
    accept: Sequence[int] = (0,),
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end with a fixed locale, time zone and clock; gives status and output.

    Raises:
        ToolMissing: it is not installed.
        ToolFailed: its exit status is none of ``accept``.
    """
    done = subprocess.run(
        [find_tool(name), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=folder,
        timeout=_DEADLINE_SECONDS,
        check=False,
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "MTOOLS_SKIP_CHECK": "1",
            "E2FSPROGS_FAKE_TIME": str(FIXED_TIME),
            "SOURCE_DATE_EPOCH": str(FIXED_TIME),
        },
    )
    if done.returncode not in accept:
        raise ToolFailed(tool=name, status=done.returncode, said=said(done))
    return done


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The end of what a program printed, as one line."""
    text = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    return " ".join(text.split())[-_QUOTE_CHARACTERS:]


def batches(arguments: Iterable[str]) -> Iterable[list[str]]:
    """The arguments in order, in lists short enough for one command line each."""
    batch: list[str] = []
    for argument in arguments:
        batch.append(argument)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
