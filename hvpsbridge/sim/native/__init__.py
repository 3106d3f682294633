"""The stand-in virtdisk.dll and kernel32.dll, compiled from C on first use, once per user and source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hvpsbridge.errors import ConfigurationError

_SOURCE = Path(__file__).with_name("virtdisk.c")
_FLAGS = ("-O2", "-shared", "-fPIC", "-pthread")
# File names that .NET on Linux looks for when C# names virtdisk.dll and kernel32.dll. Both are one library
# and share handles.
_LIBRARY = "virtdisk.dll.so"
_SECOND_NAME = "kernel32.dll.so"
_COMPILE_SECONDS = 120


def library_folder(cache: Path | None = None) -> Path:
    """Folder with the libraries, for ``LD_LIBRARY_PATH``. Compiles them if necessary.

    Args:
        cache: where to store them; by default ``hvpsbridge/sim`` in the user's cache folder.

    Raises:
        ConfigurationError: there is no C compiler, or it fails.
    """
    source = _SOURCE.read_bytes()
    digest = hashlib.sha256(source + " ".join(_FLAGS).encode()).hexdigest()[:16]
    folder = (cache or user_cache()) / f"native-{digest}"
    if (folder / _SECOND_NAME).exists():
        return folder
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise ConfigurationError(
            "simulated host",
            "the powershell engine needs a C compiler: install gcc and libc6-dev, or use engine builtin",
        )
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        command = [compiler, *_FLAGS, "-o", str(made / _LIBRARY), str(_SOURCE)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ConfigurationError("simulated host", f"{compiler} does not run: {err}") from err
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[0]
            raise ConfigurationError(
                "simulated host", f"{compiler} cannot compile {_SOURCE.name}: {said}; is libc6-dev installed?"
            )
        (made / _SECOND_NAME).symlink_to(_LIBRARY)
        try:
            made.rename(folder)
        except OSError:
            # Another process was faster; its libraries are the same.
            if not (folder / _SECOND_NAME).exists():
                raise
    return folder


def user_cache() -> Path:
    """Cache folder of simulated hosts for this user. It may not exist."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "hvpsbridge" / "sim"
