"""External programs that create, change and check guest file systems.

They run on plain files, as an ordinary user. The error for a missing program names its Debian package; the
error for a program that fails has its output.
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

# Debian installs file system tools where an ordinary user's PATH does not look.
_FOLDERS = os.pathsep.join(("/usr/sbin", "/sbin"))

# 2026-01-01T00:00:00Z. Real times would make two disks of one seed differ.
FIXED_TIME = 1_767_225_600

_DEADLINE_SECONDS = 600
# How much of a failed program's output is quoted.
_QUOTE_CHARACTERS = 400
# Arguments per call, far below the limit of the kernel.
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
    """Run a program with a fixed locale, time zone and clock. Returns status and output.

    Raises:
        ToolMissing: it is not installed.
        ToolFailed: its exit status is not in ``accept``.
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
    """The end of a program's output, as one line."""
    text = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    return " ".join(text.split())[-_QUOTE_CHARACTERS:]


def batches(arguments: Iterable[str]) -> Iterable[list[str]]:
    """The arguments, in order, in lists that fit on a command line."""
    batch: list[str] = []
    for argument in arguments:
        batch.append(argument)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
