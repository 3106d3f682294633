"""Disk images as raw files: converts VHDX and qcow2 with qemu-img."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvpsbridge.errors import SimulatorError

_SIGNATURES = {b"vhdxfile": "vhdx", b"QFI\xfb": "qcow2", b"conectix": "vpc"}
_CONVERT_SECONDS = 3600


def image_format(image: Path) -> str:
    """``raw``, ``vhdx``, ``qcow2`` or ``vpc`` (a dynamic VHD), by the file's first bytes.

    Raises:
        SimulatorError: it cannot be read.
    """
    try:
        with image.open("rb") as file:
            head = file.read(8)
    except OSError as err:
        raise SimulatorError(f"cannot read image {image}: {err.strerror}") from err
    return next((name for magic, name in _SIGNATURES.items() if head.startswith(magic)), "raw")


@contextmanager
def as_raw(image: Path, scratch: Path) -> Iterator[Path]:
    """The image itself if it is raw, else a raw copy in ``scratch`` that is deleted afterwards.

    Raises:
        SimulatorError: it cannot be read, or qemu-img is missing or refuses it.
    """
    kind = image_format(image)
    if kind == "raw":
        yield image
        return
    tool = shutil.which("qemu-img")
    if tool is None:
        raise SimulatorError(f"{image} is {kind}: importing it needs qemu-img (Debian: qemu-utils)")
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="import-") as folder:
        raw = Path(folder) / "image.raw"
        _run([tool, "convert", "-f", kind, "-O", "raw", str(image), str(raw)], image)
        yield raw


def virtual_size(image: Path) -> int:
    """Size in bytes of the disk in an image.

    Raises:
        SimulatorError: it cannot be read, or qemu-img is missing or refuses it.
    """
    kind = image_format(image)
    if kind == "raw":
        return image.stat().st_size
    tool = shutil.which("qemu-img")
    if tool is None:
        raise SimulatorError(f"{image} is {kind}: reading it needs qemu-img (Debian: qemu-utils)")
    said = _run([tool, "info", "-f", kind, "--output=json", str(image)], image)
    return int(json.loads(said)["virtual-size"])


def _run(command: list[str], image: Path) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CONVERT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise SimulatorError(f"qemu-img does not run: {err}") from err
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise SimulatorError(f"qemu-img cannot read {image}: {said}")
    return done.stdout
