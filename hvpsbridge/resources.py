"""Files that ship with the code: host scripts and example playbooks.

In a checkout they are top-level folders (``ps_scripts/``, ``playbooks/``), in a wheel package data under
``hvpsbridge/_data``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder ``name``, from the wheel if there is one, else from the checkout.

    Raises:
        FileNotFoundError: the folder is missing from the installation.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the folder {name} is missing from this installation; reinstall hvpsbridge")
