"""Writes the tables of ``docs/playbook.md`` from the JSON Schema: ``python -m tests.playbook.reference``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvpsbridge.playbook.read import file_schema, playbook_schema
from hvpsbridge.playbook.specs import SettingsSpec
from hvpsbridge.playbook.types import FORM
from hvpsbridge.tasks.registry import TASKS, find_task
from hvpsbridge.units import plain_duration, plain_size

Json = dict[str, Any]

PAGE = Path(__file__).parents[2] / "docs" / "playbook.md"
START, END = "<!-- tables: start -->\n", "<!-- tables: end -->\n"

# Headings of tables by class; a class that is not here has its name.
_HEADINGS = {
    "PlaybookSpec": "The file",
    "RunLimits": "Limits of a run",
    "HostSpec": "A host",
    "RepositorySpec": "A repository",
    "SecretRef": "A secret reference",
    "PlaySpec": "A play",
    "VmSelection": "A selection of VMs",
    "TaskSpec": "A task",
    "DiskSelection": "A selection of disks",
    "BackupLimits": "Limits of a backup",
    "TuningOptions": "Tuning of a backup",
    "SettingsSpec": "The configuration file",
}


def heading(name: str) -> str:
    """Heading of the table of a class."""
    tasks = {find_task(kind).options.__name__: f"The task {kind}" for kind in TASKS}
    return {**_HEADINGS, **tasks}.get(name, name)


def _classes(name: str, definitions: Json, found: list[str]) -> list[str]:
    """A class and those that its keys take, each once, in the order in which they are met."""
    if name not in found and "properties" in definitions[name]:
        found.append(name)
        for below in re.findall(r"#/\$defs/(\w+)", json.dumps(definitions[name]["properties"])):
            _classes(below, definitions, found)
    return found


_WORDS = {"string": "text", "boolean": "true or false", "integer": "whole number"}


def _takes(schema: Json, definitions: Json) -> str:
    if FORM in schema:
        return str(schema[FORM])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if "enum" in definitions[name]:
            return ", ".join(f"`{word}`" for word in definitions[name]["enum"])
        title = heading(name)
        return f"[{title[:1].lower()}{title[1:]}](#{_anchor(title)})"
    if "anyOf" in schema:
        return " or ".join(_takes(one, definitions) for one in schema["anyOf"] if one != {"type": "null"})
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return f"list of {_takes(schema['items'], definitions)}"
    if schema["type"] == "object":
        return f"names with {_takes(schema['additionalProperties'], definitions)}"
    return _WORDS[schema["type"]]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _default(schema: Json, takes: str) -> str:
    value = schema.get("default")
    if value in (None, [], {}) or isinstance(value, dict):
        return ""
    if takes == "size":
        return f"`{plain_size(value)}`"
    if takes == "duration":
        return f"`{plain_duration(value)}`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _rows(schema: Json, definitions: Json) -> Iterator[str]:
    for name, entry in schema["properties"].items():
        takes = _takes(entry, definitions)
        default = "**required**" if name in schema.get("required", ()) else _default(entry, takes)
        yield f"| `{name}` | {takes} | {default} | {entry['description']} |"


def tables() -> str:
    """All tables, as the page has them."""
    playbook, settings = playbook_schema(), file_schema(SettingsSpec)
    files = {"PlaybookSpec": playbook, "SettingsSpec": settings}
    definitions = {**settings["$defs"], **playbook["$defs"], **files}
    parts = []
    found: list[str] = []
    for start in files:
        _classes(start, definitions, found)
    for name in found:
        about = " ".join(definitions[name].get("description", "").split()).replace("``", "`")
        rows = "\n".join(_rows(definitions[name], definitions))
        head = "| key | takes | default | meaning |\n|---|---|---|---|"
        parts.append(f"## {heading(name)}\n\n{about}\n\n{head}\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(before + START + "\n" + tables() + "\n" + END + rest.partition(END)[2])
