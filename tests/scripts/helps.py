"""Comment help and ``param()`` of a script, as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.resources import resource_folder

FOLDER = resource_folder("ps_scripts")


@dataclass(frozen=True)
class Column:
    """One row of an OUTPUTS table."""

    name: str
    type: str
    text: str


@dataclass(frozen=True)
class Declared:
    """One parameter of ``param()``."""

    name: str
    type: str
    mandatory: bool
    from_pipeline: bool


def script(name: str) -> str:
    return (FOLDER / f"{name}.ps1").read_text(encoding="ascii")


def section(text: str, name: str) -> list[str]:
    """Lines of a help section without their indentation."""
    found = re.search(rf"^\.{name}\n(.*?)(?=^\.[A-Z]+|^#>)", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("    ") for line in found[1].splitlines()] if found else []


def outputs(text: str) -> tuple[str, list[Column]]:
    head, *rows = section(text, "OUTPUTS")
    return head, [Column(*re.split(r"\s{1,}", row.strip(), maxsplit=2)) for row in rows if row.strip()]


def parameters(text: str) -> list[Declared]:
    block = re.search(r"^param\((.*?)^\)|^param\(\)", text, re.MULTILINE | re.DOTALL)
    assert block, "no param()"
    found = []
    for line in (block[1] or "").splitlines():
        if not line.strip():
            continue
        match = re.search(
            r"\[([\w\[\]]+)\] \$(\w+)", re.sub(r"\[(Parameter|ValidateSet)\(.*?\)\] ", "", line)
        )
        assert match, line
        kind = re.sub(r"^Nullable\[(\w+)\]$", r"\1", match[1])
        found.append(Declared(match[2], kind, "Mandatory = $true" in line, "ValueFromPipeline" in line))
    return found


def sources() -> list[Path]:
    return sorted([*FOLDER.glob("*.ps1"), *FOLDER.glob("lib/*.ps1"), *FOLDER.glob("lib/**/*.cs")])
