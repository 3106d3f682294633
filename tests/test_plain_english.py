"""Phrases that a native engineer would not write appear neither in what hvps prints nor in its documents.

The list is short and made of whole phrases, each with a better one. It is checked against help texts, errors
with sample facts, JSON Schemas, every other string in the package (reasons, remedies, logs, lines of output)
and the documents.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import hvpsbridge
from hvpsbridge.cli.app import hvps as command_group
from hvpsbridge.cli.schema import report_schemas
from hvpsbridge.errors import HvpsError
from hvpsbridge.playbook.read import playbook_schema

PACKAGE = Path(hvpsbridge.__file__).resolve().parent
CHECKOUT = PACKAGE.parent
DOCUMENTS = (*sorted((CHECKOUT / "docs").glob("*.md")), CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md")

# Each phrase with what to write instead.
PHRASES = {
    r"shall": "say what is required or what happens",
    r"tells? more": "see PAGE, or run COMMAND",
    r"is told|are told": "hvps prints, reports or is given it",
    r"tell hvps": "name the command that decides",
    r"whoever": "anyone who, or name the role",
    r"of ours|may be ours": "say 'of hvps', or 'created by hvps'",
    r"(?<!there )is no(?! (?:longer|more|such|need)\b)": "X is not a Y",
    r"(?<!there )are no(?! (?:longer|more|such)\b)": "X are not Y",
    r"stands? (?:in|for|twice|several|\{\}|\d)": "is in, means, or was found N times",
    r"nobody knows|no word of": "it is not known",
    r"as it were": "leave it out",
    r"sealed": "encrypted",
    r"heed(?:s|ed)?": "respect, handle or obey",
    r"what lacks|that lacks?": "what is missing",
    r"(?:is|are) wanted": "must be, or specify",
    r"refused us": "refused the login",
    r"opens no": "cannot open",
    r"passes for": "is reported as",
    r"for what passes": "temporary conditions",
    r"be worth": "consistency",
    r"makes? again|made again": "rebuild, or rebuilt",
    r"(?:account|user)s?(?: may)? proves? (?:itself|themselves)": "authenticates",
    r"what pays": "where it saves bandwidth",
    r"say of themselves|says of itself": "from the footers, or reports",
}
_PATTERN = re.compile(
    "|".join(rf"(?P<p{index}>\b(?:{phrase})(?!\w))" for index, phrase in enumerate(PHRASES)), re.I
)

# Quotations, labels and words that others have coined: where, what is allowed there, and why.
ALLOWED = (
    (
        r"host/psrp/|sim/wsman/|docs/(performance|simulated-host)\.md",
        r"sealed",
        "NTLM and Kerberos seal messages (MS-NLMP)",
    ),
    (r"docs/format\.md", r"sealed", "the label of the format: seal is the act on one object"),
    (r"schema report", r"sealed", "a key of the JSON document"),
)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text with the place where it was found."""

    where: str
    text: str


def problems(found: Text) -> Iterator[str]:
    """A line for each phrase in the text, with what to write instead."""
    for match in _PATTERN.finditer(found.text):
        if not any(
            re.search(place, found.where) and re.fullmatch(allowed, match[0], re.I)
            for place, allowed, _ in ALLOWED
        ):
            better = list(PHRASES.values())[int(str(match.lastgroup)[1:])]
            around = found.text[max(0, match.start() - 40) : match.end() + 40].replace("\n", " ")
            yield f"{found.where}: {match[0]!r} ({better}): ...{around}..."


# -- what hvps prints ---------------------------------------------------------------------------------


def help_texts() -> Iterator[Text]:
    """The help of every command, and of hidden options."""

    def walk(command: click.Command, path: str) -> Iterator[Text]:
        context = click.Context(command, info_name=path)
        yield Text(f"{path} --help", command.get_help(context))
        yield Text(f"{path} --help", "\n".join(getattr(each, "help", None) or "" for each in command.params))
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from walk(below, f"{path} {name}")

    yield from walk(command_group, "hvps")


def error_texts() -> Iterator[Text]:
    """Every error with sample facts."""
    samples = {"str": "FACT", "int": 7, "int | None": -1, "float": 3.0, "tuple[str, ...]": ("ONE", "TWO")}
    waiting: list[type[HvpsError]] = [HvpsError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        values = {field.name: samples.get(str(field.type), ()) for field in dataclasses.fields(kind)}
        yield Text(f"error {kind.__name__}", str(kind(**values)))


def schema_texts() -> Iterator[Text]:
    """Titles and descriptions of the schemas that ``hvps schema`` prints."""

    def walk(node: Any, name: str) -> Iterator[Text]:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key in ("title", "description") and isinstance(value, str):
                yield Text(name, value)
            elif isinstance(value, dict | list):
                yield from walk(value, name)

    yield from walk(report_schemas(), "schema report")
    yield from walk(json.loads(json.dumps(playbook_schema())), "schema playbook")


# -- what may be printed ------------------------------------------------------------------------------


def string_literals() -> Iterator[Text]:
    """Strings of several words in the package, docstrings excepted; ``{}`` for what is filled in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(CHECKOUT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = set(_docstrings(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                skipped |= set(node.values)
                yield Text(f"{where}:{node.lineno}", "".join(map(_literal, node.values)))
            elif isinstance(node, ast.Constant) and node not in skipped and " " in _literal(node):
                yield Text(f"{where}:{node.lineno}", _literal(node))


def _literal(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "{}"


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def document_texts() -> Iterator[Text]:
    """Paragraphs of the documents, without code."""
    for path in DOCUMENTS:
        where = path.relative_to(CHECKOUT).as_posix()
        text = re.sub(
            r"```.*?```",
            lambda code: "\n" * code[0].count("\n"),
            path.read_text(encoding="utf-8"),
            flags=re.S,
        )
        line = 1
        text = re.sub(r"\]\([^)]*\)|<a [^>]*>", "]", text)
        for paragraph in re.split(r"(\n\s*\n)", text):
            yield Text(f"{where}:{line}", re.sub(r"`[^`]*`", "CODE", paragraph))
            line += paragraph.count("\n")


def all_problems() -> tuple[str, ...]:
    """Every problem there is."""
    sources = (help_texts, error_texts, schema_texts, string_literals, document_texts)
    return tuple(line for source in sources for found in source() for line in problems(found))


def test_nothing_that_users_read_has_a_phrase_of_the_list() -> None:
    found = all_problems()
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a size is wanted", "is wanted"),
        ("7 bytes are no pack", "are no"),
        ("Whoever reads it", "Whoever"),
        ("event 3216 stands {} times", "stands {}"),
        ("it is sealed", "sealed"),
    ],
)
def test_a_phrase_is_found(text: str, phrase: str) -> None:
    (line,) = problems(Text("x.py:1", text))
    assert repr(phrase) in line


@pytest.mark.parametrize(
    "text", ["there is no repository", "it is no longer there", "a shallow copy", "it understands for"]
)
def test_plain_english_is_let_alone(text: str) -> None:
    assert not list(problems(Text("x.py:1", text)))
