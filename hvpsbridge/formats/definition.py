"""The portable definition of a VM: JSON text from the host, and what is missing in it.

The host names in ``problems`` each section that it could not read; the section itself is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# Letters of a section's name or an error, at most; both come from a host.
MAX_LETTERS = 200


def without_sections(error: str, message: str) -> str:
    """A definition of which no section could be read."""
    problem = {"section": "definition", "error": error, "message": message}
    return json.dumps({"format": 1, "problems": [problem]}, separators=(",", ":"))


def missing_sections(definition: str) -> tuple[str, ...]:
    """What a definition lacks: a section and why, one line each; empty if nothing is known to be missing."""
    if not definition:
        return ()
    try:
        found = json.loads(definition)
    except (ValueError, RecursionError):
        return ("all of it (not JSON)",)
    problems = found.get("problems") if isinstance(found, dict) else None
    return tuple(dict.fromkeys(_lines(problems if isinstance(problems, list) else [])))


def _lines(problems: list[Any]) -> Iterator[str]:
    for problem in problems:
        if isinstance(problem, dict):
            section, error = str(problem.get("section")), str(problem.get("error"))
            yield f"{section[:MAX_LETTERS]} ({error[:MAX_LETTERS]})"
