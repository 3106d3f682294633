"""WMI classes and methods, from the pages of MicrosoftDocs/win32."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tools.documented.sources import Checkout

FOLDERS = ("desktop-src/HyperV_v2", "desktop-src/CIMWin32Prov")

Table = dict[str, Any]

_CLASS = re.compile(r"^class +(\w+)(?: *: *(\w+))?\s*\{(.*?)^\};?", re.M | re.S)
_MEMBER = re.compile(r"^\s*(\w+)\s+(REF\s+)?(\w+)\s*(\[\])?\s*(?:=[^;]*)?;", re.M)
_PROPERTY = re.compile(r"^\*\*(\w+)\*\*\n(?=</dt> <dd> <dl> <dt>)", re.M)
_PARAMETER = re.compile(r"\[([^\]]*\b(?:in|out)\b[^\]]*)\]\s+(\w+)\s+(REF\s+)?(\w+)\s*(\[\])?\s*[,)\n]")
_PARAGRAPH_VALUE = re.compile(r"\*\*([^*\n]+)\*\* \((0x[0-9A-Fa-f]+|\d+)\)")
_CELL_VALUE = re.compile(r"<dt>\*\*([^*\n]+)\*\*</dt> <dt>(0x[0-9A-Fa-f]+|\d+)</dt>")


def wmi_table(docs: Checkout, classes: Iterable[str], methods: Iterable[tuple[str, str]]) -> Table:
    """Facts about classes and methods; what has no page is under ``missing``."""
    found: Table = {"source": docs.source(), "classes": {}, "methods": {}, "missing": []}
    asked = set(classes)
    waiting = sorted(asked)
    while waiting:
        name = waiting.pop(0)
        if name in found["classes"] or name in found["missing"]:
            continue
        page = _class_page(docs, name)
        facts = None if page is None else _class_facts(docs, name, page)
        if facts is None:
            found["missing"].append(name)
            continue
        if name not in asked:  # others derive from it
            facts = {key: facts[key] for key in ("path", "base", "properties")}
        found["classes"][name] = facts
        if facts["base"]:
            waiting.append(facts["base"])
    for owner, method in sorted(methods):
        page = _method_page(docs, owner, method)
        if page is None:
            found["missing"].append(f"{owner}.{method}")
        else:
            found["methods"][f"{owner}.{method}"] = _method_facts(docs, method, page)
    found["classes"] = dict(sorted(found["classes"].items()))
    found["missing"].sort()
    return found


def _class_page(docs: Checkout, name: str) -> str | None:
    page = f"{name.lower().replace('_', '-')}.md"
    return next((f"{folder}/{page}" for folder in FOLDERS if f"{folder}/{page}" in docs.paths), None)


def _method_page(docs: Checkout, owner: str, method: str) -> str | None:
    owner, method = owner.lower().replace("_", "-"), method.lower()
    names = (f"{owner}-{method}", f"{method}-{owner}")
    pages = (f"{folder}/{name}.md" for folder in FOLDERS for name in names)
    return next((page for page in pages if page in docs.paths), None)


def _class_facts(docs: Checkout, name: str, path: str) -> Table | None:
    text = docs.read(path)
    declared = _CLASS.search(text)
    if declared is None or declared[1] != name:
        return None
    sections = _property_sections(text)
    keys = [each for each, section in sections.items() if re.search(r"Qualifiers:.*\bKey\b", section)]
    values = {each: numbers for each, section in sections.items() if (numbers := _values(section))}
    facts: Table = {
        "path": path,
        "base": declared[2] or "",
        "properties": {
            member[3]: _type(member[1], bool(member[2]), bool(member[4]))
            for member in _MEMBER.finditer(declared[3])
        },
        "keys": sorted(keys),
    }
    if values:
        facts["values"] = dict(sorted(values.items()))
    return facts


def _method_facts(docs: Checkout, method: str, path: str) -> Table:
    text = docs.read(path)
    start = text.index(f" {method}(")
    signature = text[start : text.index(");", start) + 1]
    facts: Table = {"path": path, "in": {}, "out": {}}
    for parameter in _PARAMETER.finditer(signature + "\n"):
        kind = _type(parameter[2], bool(parameter[3]), bool(parameter[5]))
        for way in ("in", "out"):
            if re.search(rf"\b{way}\b", parameter[1]):
                facts[way][parameter[4]] = kind
    _, _, returned = text.partition("## Return value")
    returned = returned.partition("\n## ")[0]
    if codes := _values(returned):
        facts["returns"] = codes
    return facts


def _type(name: str, reference: bool, array: bool) -> str:
    kind = f"ref:{name}" if reference else name.lower()
    return f"{kind}[]" if array else kind


def _property_sections(text: str) -> dict[str, str]:
    """Text about each property, by name."""
    _, _, text = text.partition("### Properties")
    text = text.partition("\n## ")[0]
    heads = list(_PROPERTY.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return {head[1]: text[head.end() : end] for head, end in zip(heads, ends, strict=False)}


def _values(text: str) -> dict[str, str]:
    """Names of numbers in a text, by number."""
    found: dict[int, str] = {}
    text = re.sub(r"^Qualifiers:.*$", "", text, flags=re.M)
    for pattern in (_PARAGRAPH_VALUE, _CELL_VALUE):
        for value in pattern.finditer(text):
            found.setdefault(int(value[2], 0), value[1].replace("\\", "").strip())
    return {str(number): found[number] for number in sorted(found)}
