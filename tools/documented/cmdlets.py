"""Cmdlets, their parameters and outputs, from the pages of MicrosoftDocs/windows-powershell-docs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tools.documented.sources import Checkout

RELEASES = ("2016", "2019", "2022", "2025")
MODULE = "Hyper-V"

Table = dict[str, Any]

_PARAMETER = re.compile(r"^### -(\w+)\n(.*?)(?=^##|\Z)", re.M | re.S)
_TYPE = re.compile(r"^Type: *(\S+)", re.M)
_ALIASES = re.compile(r"^Aliases: *(\S.*)$", re.M)
_ACCEPTED = re.compile(r"^Accepted values: *(\S.*)$", re.M)
# In the text before the table of a parameter.
_ALLOWED = re.compile(r"(?:Allowed|Valid|acceptable) values (?:for this parameter )?are:? ([^\n]*)", re.I)
_OUTPUTS = re.compile(r"^## OUTPUTS\n(.*?)(?=^## )", re.M | re.S)


def cmdlet_table(docs: Checkout, cmdlets: Iterable[str], enums: Iterable[str]) -> Table:
    """Facts about cmdlets, and the names that parameters of these enumeration types take anywhere.

    ``not_in`` lists the releases of Windows Server whose pages lack a cmdlet or parameter.
    """
    found: Table = {"source": docs.source(), "module": MODULE, "cmdlets": {}, "enums": {}, "missing": []}
    for name in sorted(cmdlets):
        pages = {release: path for release in RELEASES if (path := _page(release, name)) in docs.paths}
        if pages:
            found["cmdlets"][name] = _facts({release: docs.read(path) for release, path in pages.items()})
        else:
            found["missing"].append(name)
    names: dict[str, dict[str, set[str]]] = {}
    for path in sorted(docs.paths):
        if re.fullmatch(rf"docset/winserver({'|'.join(RELEASES)})-ps/{MODULE}/\w+-\w+\.md", path):
            _add_enum_names(names, path, docs.read(path))
    for enum in sorted(enums):
        if enum in names:
            values = set().union(*names[enum].values())
            found["enums"][enum] = {"names": sorted(values), "paths": _newest(names[enum])}
        else:
            found["missing"].append(enum)
    found["missing"].sort()
    return found


def _page(release: str, cmdlet: str) -> str:
    return f"docset/winserver{release}-ps/{MODULE}/{cmdlet}.md"


def _facts(pages: dict[str, str]) -> Table:
    parameters: dict[str, Table] = {}
    there: dict[str, set[str]] = {}
    outputs: set[str] = set()
    for release, text in pages.items():
        for parameter in _PARAMETER.finditer(text):
            kind = _TYPE.search(parameter[2])
            if kind is None:
                continue
            there.setdefault(parameter[1], set()).add(release)
            parameters[parameter[1]] = {"type": kind[1]}
            if aliases := _ALIASES.search(parameter[2]):
                parameters[parameter[1]]["aliases"] = sorted(_words(aliases[1]))
        if found := _OUTPUTS.search(text):
            outputs.update(re.findall(r"^### (\S+)", found[1], re.M))
    for name, releases in there.items():
        if lacking := [release for release in pages if release not in releases]:
            parameters[name]["not_in"] = lacking
    facts: Table = {"outputs": sorted(outputs), "parameters": dict(sorted(parameters.items()))}
    if lacking := [release for release in RELEASES if release not in pages]:
        facts["not_in"] = lacking
    return facts


def _add_enum_names(names: dict[str, dict[str, set[str]]], path: str, text: str) -> None:
    for parameter in _PARAMETER.finditer(text):
        kind = _TYPE.search(parameter[2])
        if kind is None:
            continue
        enum = re.sub(r"^.*\.|\[\]$", "", re.sub(r"^(?:System\.)?Nullable`1\[([\w.]+).*", r"\1", kind[1]))
        values: set[str] = set()
        if accepted := _ACCEPTED.search(parameter[2]):
            values |= _words(accepted[1])
        elif allowed := _ALLOWED.search(parameter[2].partition("```")[0]):
            values |= set(re.findall(r"\*\*(\w+)\*\*", allowed[1]))
        if values:
            names.setdefault(enum, {}).setdefault(path, set()).update(values)


def _words(text: str) -> set[str]:
    return set(filter(None, re.split(r"[, ]+", text)))


def _newest(paths: Iterable[str]) -> list[str]:
    """The pages of the newest release that has any."""
    for release in reversed(RELEASES):
        if found := sorted(path for path in paths if f"winserver{release}-" in path):
            return found
    return []
