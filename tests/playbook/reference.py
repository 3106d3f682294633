"""Writes the tables of ``docs/playbook.md`` from the JSON Schema: ``python -m tests.playbook.reference``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hvpsbridge.playbook import places, specs, task_options
from hvpsbridge.playbook.types import KIND
from hvpsbridge.units import size_text

PAGE = Path(__file__).parents[2] / "docs" / "playbook.md"
START, END = "<!-- tables: start -->\n", "<!-- tables: end -->\n"

# Class to the heading of its table.
TABLES: dict[type, str] = {
    specs.PlaybookSpec: "The file",
    task_options.RunLimits: "Limits of a run",
    places.HostSpec: "A host",
    places.RepositorySpec: "A repository",
    places.SecretRef: "A secret reference",
    specs.PlaySpec: "A play",
    specs.VmSelection: "A selection of VMs",
    specs.TaskSpec: "A task",
    task_options.BackupOptions: "The task backup",
    task_options.DiskSelection: "A selection of disks",
    task_options.BackupLimits: "Limits of a backup",
    task_options.TuningOptions: "Tuning of a backup",
    task_options.VerifyOptions: "The task verify",
    task_options.RestoreOptions: "The task restore",
    specs.SettingsSpec: "The configuration file",
}
_HEADINGS = {spec.__name__: heading for spec, heading in TABLES.items()}
_WORDS = {"string": "text", "boolean": "true or false", "integer": "whole number"}


def _takes(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if KIND in schema:
        return str(schema[KIND])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in _HEADINGS:
            return f"[{_HEADINGS[name][:1].lower()}{_HEADINGS[name][1:]}](#{_anchor(_HEADINGS[name])})"
        return ", ".join(f"`{word}`" for word in definitions[name]["enum"])
    if "anyOf" in schema:
        return " or ".join(_takes(one, definitions) for one in schema["anyOf"] if one != {"type": "null"})
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        return f"list of {_takes(schema['items'], definitions)}"
    if schema["type"] == "object":
        return f"names with {_takes(schema['additionalProperties'], definitions)}"
    return _WORDS[schema["type"]]


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _default(schema: dict[str, Any], takes: str) -> str:
    value = schema.get("default")
    if value in (None, [], {}) or isinstance(value, dict):
        return ""
    if takes == "size":
        return f"`{size_text(value).replace(' ', '')}`"
    if takes == "duration":
        return f"`{value / 3600:g}h`" if value >= 3600 else f"`{value:g}s`"
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def _rows(spec: type) -> Iterator[str]:
    schema = TypeAdapter(spec).json_schema()
    for name, entry in schema["properties"].items():
        takes = _takes(entry, schema.get("$defs", {}))
        default = "**required**" if name in schema.get("required", ()) else _default(entry, takes)
        yield f"| `{name}` | {takes} | {default} | {entry['description']} |"


def tables() -> str:
    """All tables, as they stand in the page."""
    parts = []
    for spec, heading in TABLES.items():
        told = " ".join((spec.__doc__ or "").split()).replace("``", "`")
        rows = "\n".join(_rows(spec))
        parts.append(
            f"## {heading}\n\n{told}\n\n| key | takes | default | meaning |\n|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(before + START + "\n" + tables() + "\n" + END + rest.partition(END)[2])
