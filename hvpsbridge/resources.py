"""Where the files that ship beside the code are: host scripts and example playbooks.

In a checkout they are top-level folders (``ps_scripts/``, ``playbooks/``); in a wheel they are package
data under ``hvpsbridge/_data``. Everything loads them through here, the same way from either.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """Folder ``name`` as shipped: the wheel's copy when there is one, else the checkout's.

    Raises:
        FileNotFoundError: the installation lacks the folder.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of hvpsbridge lacks its {name} folder; install it again")
