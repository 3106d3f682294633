"""A document whose lists are written item by item is the same text as one that holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from hvpsbridge.report.documents import Document, document_parts, document_text
from hvpsbridge.text import json_ascii


@dataclass(frozen=True, slots=True)
class Item:
    name: str
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    title: str
    files: tuple[Item, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Holders(Document):
    holders: tuple[Holder, ...]
    end: str


ITEMS = (Item('"files": []', ()), Item("a\nb\u202e\U0001f600\x1b", (1, 2)), Item("secret", (3,)))


@pytest.mark.parametrize("counts", [(), (0,), (1,), (3, 0, 2)])
def test_a_document_in_parts_is_the_same_text(counts: tuple[int, ...]) -> None:
    holders = tuple(Holder('"files": [] \\', ITEMS[:count], "note") for count in counts)
    whole = Holders(holders, "end")

    def redact(text: str) -> str:
        return text.replace("secret", "***")

    empty = Holders(tuple(replace(holder, files=()) for holder in holders), "end")
    parts = document_parts(empty, "files", [iter(holder.files) for holder in holders], redact=redact)
    assert "".join(parts) == document_text(whole, redact=redact)


def test_json_in_ascii_means_the_same() -> None:
    text = document_text(Holders((Holder("Bürö\U0001f600", ITEMS, "ü"),), "ß"))
    assert json_ascii(text).isascii()
    assert json.loads(json_ascii(text)) == json.loads(text)
