"""Files that ship with the code: host scripts and example playbooks.

In a checkout they are top-level folders or in ``tools`` (``ps_scripts/``, ``tools/conformance/``), in a wheel
package data under ``hvpsbridge/_data``.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder ``name``, from the wheel if there is one, else from the checkout.

    Raises:
        FileNotFoundError: the folder is missing from the installation.
    """
    checkout = _PACKAGE.parent
    for candidate in (_PACKAGE / "_data" / name, checkout / name, checkout / "tools" / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"the folder {name} is missing from this installation; reinstall hvpsbridge")
