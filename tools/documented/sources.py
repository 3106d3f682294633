"""Where the tables come from: git repositories at one commit, and a wheel."""

from __future__ import annotations

import re
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Checkout:
    """A git repository, with or without a work tree, at the commit of its HEAD.

    Attributes:
        folder: the repository.
        name: its public name, such as ``MicrosoftDocs/win32``.
    """

    folder: Path
    name: str

    @cached_property
    def commit(self) -> str:
        """Hash of the commit."""
        return self._git("rev-parse", "HEAD").strip()

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every file of the commit."""
        return frozenset(self._git("ls-tree", "-r", "--name-only", "-z", "HEAD").split("\0"))

    def read(self, path: str) -> str:
        """Text of a file, with plain line ends."""
        return self._git("show", f"HEAD:{path}").replace("\r\n", "\n")

    def source(self) -> dict[str, str]:
        """What a table says of its source."""
        return {"repository": self.name, "commit": self.commit}

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.folder), *words], capture_output=True, check=True)
        return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class Wheel:
    """A wheel of the win32more project: Microsoft's metadata of the Windows SDK as Python text."""

    file: Path

    def read(self, path: str) -> str:
        """Text of a file in it."""
        with zipfile.ZipFile(self.file) as archive:
            return archive.read(path).decode()

    def source(self) -> dict[str, str]:
        """What a table says of its source."""
        found = re.fullmatch(r"win32more_(\w+)-([\d.]+)-.*\.whl", self.file.name)
        if found is None:
            raise ValueError(f"{self.file} is not a wheel of win32more")
        # The first two numbers are those of win32more, the others those of Microsoft's package.
        package = found[1].replace("_", ".")
        return {"package": f"win32more-{package}", "version": found[2]}
