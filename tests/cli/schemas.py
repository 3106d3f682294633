"""Checks documents against the schemas that ``hvps schema report`` prints."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from hvpsbridge.cli.schema import report_schemas


@cache
def _validators() -> dict[str, Draft202012Validator]:
    checker = Draft202012Validator.FORMAT_CHECKER
    found = {}
    for command, schema in report_schemas().items():
        Draft202012Validator.check_schema(schema)
        found[command] = Draft202012Validator(schema, format_checker=checker)
    return found


def assert_valid(command: str, document: Any) -> None:
    """The document is what the schema of the command says."""
    problems = [
        f"{error.json_path}: {error.message}" for error in _validators()[command].iter_errors(document)
    ]
    assert not problems, f"hvps {command}: {problems}"
