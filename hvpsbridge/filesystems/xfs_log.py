"""Whether the log of XFS is clean, as xfs_logprint says.

The tool needs a file: a sparse one with the superblock and the log, which is thrown away.
"""

from __future__ import annotations

import os

from hvpsbridge.filesystems.tools import ToolFile, Tools, is_installed
from hvpsbridge.formats.readable import Readable

NOT_REPLAYED = "the XFS log was not closed and is not replayed: the newest changes may be missing"
_SUPERBLOCK_BYTES = 4096
_STEP_BYTES = 4 << 20
# Larger logs are not read to learn this.
_MAX_LOG_BYTES = 512 << 20


def log_notice(volume: Readable, tools: Tools) -> str:
    """What a user must know about the log; empty if it is clean.

    Raises:
        UnreadableError: the log cannot be read.
    """
    if not is_installed("xfs_logprint"):
        return (
            "it is not known whether the XFS log is clean: xfs_logprint is not installed (package xfsprogs)"
        )
    superblock = volume.pread(0, min(_SUPERBLOCK_BYTES, volume.size_bytes))
    offset, length = _log_range(superblock)
    if offset + length > volume.size_bytes or not 0 < length <= _MAX_LOG_BYTES:
        return "it is not known whether the XFS log is clean: it is large, or on another disk"
    try:
        file = tools.file()
    except OSError as err:
        return f"it is not known whether the XFS log is clean: {err}"
    try:
        os.ftruncate(file.descriptor, volume.size_bytes)
        os.pwrite(file.descriptor, superblock, 0)
        for at in range(offset, offset + length, _STEP_BYTES):
            data = volume.pread(at, min(_STEP_BYTES, offset + length - at))
            if data.count(0) != len(data):
                os.pwrite(file.descriptor, data, at)
        return "" if _is_clean(tools, file) else NOT_REPLAYED
    finally:
        os.close(file.descriptor)


def _log_range(superblock: bytes) -> tuple[int, int]:
    """Offset and length of the log in bytes; the length is 0 if it is elsewhere (xfs_dsb in xfs_format.h)."""
    block_bytes = int.from_bytes(superblock[4:8], "big")
    start = int.from_bytes(superblock[48:56], "big")
    group_blocks = int.from_bytes(superblock[84:88], "big")
    count = int.from_bytes(superblock[96:100], "big")
    group_bits = superblock[124]
    if start == 0:
        return 0, 0
    block = (start >> group_bits) * group_blocks + (start & ((1 << group_bits) - 1))
    return block * block_bytes, count * block_bytes


def _is_clean(tools: Tools, file: ToolFile) -> bool:
    try:
        return "state: <CLEAN>" in tools.run("xfs_logprint", file.number).output
    except OSError:
        return False
