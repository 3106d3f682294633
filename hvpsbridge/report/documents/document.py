"""What all documents have in common: a version, one way to be written, and a schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hvpsbridge.report.values import Redact, SchemaWriter, jsonable
from hvpsbridge.text import json_escaped

# Of every document. Raised when the meaning of a field changes.
VERSION = 1


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a command prints with ``--json``. Its ``version`` is added when it is written."""


def document_text(document: Document, *, indent: int | None = 2, redact: Redact = str) -> str:
    """JSON text of a document, ``version`` first. Characters that could deceive a reader are escapes.

    Args:
        redact: applied to free text in it, to hide secrets; see :func:`~hvpsbridge.report.values.jsonable`.
    """
    content = {"version": VERSION, **jsonable(document, redact)}
    return json_escaped(json.dumps(content, indent=indent, ensure_ascii=False))


def document_parts(
    document: Document,
    key: str,
    lists: Sequence[Iterable[object]],
    *,
    indent: int = 2,
    redact: Redact = str,
) -> Iterator[str]:
    """The text of :func:`document_text` in parts, with lists that are too long for the memory.

    Args:
        key: of empty lists in the document; the n-th gets the n-th of ``lists``.
    """
    # In a text the quotes would be escaped, so this is the key.
    before, *others = document_text(document, indent=indent, redact=redact).split(f'"{key}": []')
    for after, items in zip(others, lists, strict=True):
        margin = "\n" + before.rpartition("\n")[2]
        inner = margin + " " * indent
        yield f'{before}"{key}": ['
        comma = ""
        for item in items:
            text = json.dumps(jsonable(item, redact), indent=indent, ensure_ascii=False)
            yield comma + inner + json_escaped(text).replace("\n", inner)
            comma = ","
        yield (margin if comma else "") + "]"
        before = after
    yield before


def document_schema(*kinds: type[Document], title: str) -> dict[str, Any]:
    """JSON Schema of a document; with several kinds, of any of them."""
    writer = SchemaWriter()
    bodies = [_with_version(writer.object(kind)) for kind in kinds]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **(bodies[0] if len(bodies) == 1 else {"anyOf": bodies}),
        "$defs": writer.definitions,
    }


def _with_version(schema: dict[str, Any]) -> dict[str, Any]:
    version = {"const": VERSION, "description": "Version of the document"}
    others = {key: value for key, value in schema["properties"].items() if key != "version"}
    properties = {"version": version, **others}
    return {**schema, "properties": properties, "required": list(properties)}
