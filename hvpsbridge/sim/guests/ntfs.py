"""NTFS in a file: created by mkntfs, filled and changed through a FUSE mount, checked by ``ntfsfix -n``.

NTFS cannot be filled without mounting it. Debian's ntfs-3g can do that for any user if there is /dev/fuse.
Root uses a separate mount namespace, so that a killed process leaves no mount behind. If NTFS cannot be
mounted, ``unavailable`` gives the reason.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import ToolFailed
from hvpsbridge.sim.guests.files import Change
from hvpsbridge.sim.guests.partitions import BASIC_DATA, blank
from hvpsbridge.sim.guests.tools import find_tool, run_tool, said
from hvpsbridge.units import MIB

# Mounts $1 on $2 with options $3, runs script $4 with the remaining arguments in the mount, unmounts, and
# exits with the first status that is not 0. ntfs-3g runs in the foreground and is waited for: for a file,
# umount returns before the last write is done.
_MOUNTED = """
partition=$1; mount=$2; options=$3; script=$4; shift 4
ntfs-3g -o "no_detach,$options" "$partition" "$mount" & server=$!
until mountpoint -q "$mount"; do
    kill -0 $server 2>/dev/null || { wait $server; exit $?; }
    sleep 0.02
done
trap 'umount "$mount"; exit 1' HUP INT TERM
( cd "$mount" && eval "$script" ); status=$?
umount "$mount"; wait $server; ended=$?
[ $status = 0 ] || exit $status
exit $ended
"""

_FILL = 'cp -r --sparse=auto "$1/." .'
_READ = 'cp -r --sparse=always . "$1/"'
# $1: the folder. $2 to $4: lists of paths ended by NUL (deleted, folders, written). $5: list of patches.
_CHANGE = """
set -e
xargs -0 -r rm -f -- < "$2"
xargs -0 -r mkdir -p -- < "$3"
(cd "$1" && xargs -0 -r cp --parents -t "$OLDPWD" -- ) < "$4"
while read -r page count path; do
    dd if="$1/$path" of="$path" bs=512 skip="$page" seek="$page" count="$count" conv=notrunc status=none
done < "$5"
"""
_PROBE_BYTES = 8 * MIB
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Ntfs:
    """The file system of Windows guests."""

    name: str = "ntfs"
    partition_type: UUID = BASIC_DATA

    def unavailable(self) -> str:
        for tool in ("mkntfs", "ntfs-3g", "ntfsfix", "unshare", "mountpoint"):
            find_tool(tool)
        return _mounts_here()

    def make(self, partition: Path, folder: Path, *, seed: int) -> None:
        _format(partition)
        _mounted(partition, "rw", _FILL, folder)

    def change(self, partition: Path, folder: Path, change: Change, *, seed: int) -> None:
        patches = "".join(
            f"{offset // _SECTOR} {length // _SECTOR} {path}\n"
            for path, spans in change.patched.items()
            for offset, length in spans
        )
        with tempfile.TemporaryDirectory(dir=partition.parent) as scratch:
            lists = []
            for name, text in (
                ("deleted", "".join(f"{path}\0" for path in change.deleted)),
                ("folders", "".join(f"{path}\0" for path in change.folders)),
                ("written", "".join(f"{path}\0" for path in (*change.replaced, *change.added))),
                ("patches", patches),
            ):
                lists.append(Path(scratch, name))
                lists[-1].write_text(text, encoding="utf-8")
            _mounted(partition, "rw", _CHANGE, folder, *lists)

    def check(self, partition: Path) -> tuple[str, ...]:
        done = run_tool("ntfsfix", "-n", partition, accept=range(256))
        return () if done.returncode == 0 else (f"ntfsfix ended with {done.returncode}: {said(done)}",)

    def read_out(self, partition: Path, into: Path) -> None:
        into.mkdir()
        _mounted(partition, "ro", _READ, into)


def _format(partition: Path) -> None:
    run_tool(
        *("mkntfs", "-F", "-Q", "-q", "-L", "guest", "-s", str(_SECTOR)),
        *("-p", "0", "-H", "0", "-S", "0", partition),
    )


def _mounted(partition: Path, options: str, script: str, *arguments: Path) -> None:
    """Run a shell script in the mounted file system."""
    shell = ("unshare", "--mount", "sh") if os.geteuid() == 0 else ("sh",)
    with tempfile.TemporaryDirectory(dir=partition.parent) as mount:
        run_tool(*shell, "-c", _MOUNTED, "sh", partition, mount, options, script, *arguments)


@cache
def _mounts_here() -> str:
    """Try to mount once. Returns why it failed, or an empty string."""
    with tempfile.TemporaryDirectory(prefix="hvps-ntfs-") as scratch:
        image, folder = Path(scratch, "probe"), Path(scratch, "files")
        blank(image, _PROBE_BYTES)
        folder.mkdir()
        (folder / "probe.txt").write_text("probe", encoding="utf-8")
        try:
            _format(image)
            _mounted(image, "rw", _FILL, folder)
        except ToolFailed as err:
            return f"NTFS needs a FUSE mount, which this machine or user does not allow ({err.said[:120]})"
    return ""
