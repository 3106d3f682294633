"""Writes the tables of ``docs/windows-codes.md``: ``python -m tests.native_codes``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hvpsbridge.errors.codes import CODES, Origin

PAGE = Path(__file__).resolve().parent.parent / "docs" / "windows-codes.md"
START, END = "<!-- tables: start -->\n", "<!-- tables: end -->\n"

_HEADINGS = {
    Origin.WINDOWS: "Windows",
    Origin.WMI: "WMI and the Hyper-V services",
    Origin.HYPERV: "Hyper-V",
    Origin.DISK: "Virtual disks",
    Origin.VSS: "VSS, in the guest",
}


def tables() -> str:
    """The tables, one for each origin."""
    return "".join(f"{line}\n" for origin in Origin for line in _table(origin))


def _table(origin: Origin) -> Iterator[str]:
    yield from (f"## {_HEADINGS[origin]}", "", "| code | name | cause | what to do |", "|---|---|---|---|")
    for known in CODES.values():
        if known.origin is origin:
            code = f"{known.code}" if known.code < 0x10000 else f"0x{known.code:08X}"
            yield f"| {code} | `{known.name}` | {known.cause} | {known.remedy} |"
    yield ""


def main() -> None:
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{head}{START}\n{tables()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
