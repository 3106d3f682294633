"""Image files as qemu-img reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

# What qemu-img calls the formats.
QEMU = {
    "raw": "raw",
    "vhdx": "vhdx",
    "vhdx-fixed": "vhdx",
    "vhd": "vpc",
    "vhd-fixed": "vpc",
    "qcow2": "qcow2",
}


def assert_same_disk(image: Path | str, kind: str, raw: Path) -> None:
    """The image holds the disk of the raw file."""
    done = subprocess.run(
        ["qemu-img", "compare", "-f", QEMU[kind], "-F", "raw", image, raw],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
