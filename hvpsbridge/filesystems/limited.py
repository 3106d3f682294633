"""Starts a tool with the limits of the parser and without a network.

Started as ``python -m hvpsbridge.filesystems.limited PATH ARGUMENTS``.
"""

from __future__ import annotations

import os
import sys

from hvpsbridge.filesystems.confinement import confine_tool, limit


def main() -> None:
    """Become the tool."""
    limit()
    confine_tool()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - tools.py chooses the path, and no shell is wanted


if __name__ == "__main__":
    main()
