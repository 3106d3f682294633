"""Types of values in a playbook: what text they take, what they become, what the JSON Schema says.

Every scalar is strict: no number where text belongs and no text where a number belongs, except where a type
here reads both (sizes and durations).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Strict, StringConstraints, WithJsonSchema

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.folders import expanded
from hvpsbridge.text import has_controls
from hvpsbridge.units import MAX_SIZE_BYTES, parse_duration, parse_size

# Key of the JSON Schema under which a type has its name, for docs/playbook.md.
FORM = "x-kind"


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE_BYTES:
        return value
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError("must be a size, for example 64KiB, 512MiB or 4GiB")


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("must be a duration with its unit, for example 30s, 15m, 2h or 7d")


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a path")
    try:
        return expanded(Path(value))
    except ConfigurationError as err:
        raise ValueError(err.what) from err


def check_text(value: object, examples: Sequence[str] = ()) -> str:
    """A value that must be text.

    Raises:
        ValueError: it is not, is empty, or has control characters or halves of surrogate pairs.
    """
    if not isinstance(value, str) or not value:
        raise ValueError("must be text" + (f", for example {examples[0]}" if examples else ""))
    return _no_control_characters(value)


def _no_control_characters(value: str) -> str:
    if has_controls(value):
        raise ValueError("must not contain control characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not contain half of a surrogate pair")
    return value


Text = Annotated[str, Strict(), StringConstraints(min_length=1), AfterValidator(_no_control_characters)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Scalar = (
    Annotated[bool, Strict()]
    | Annotated[int, Strict()]
    | Annotated[float, Strict()]
    | Annotated[str, Strict()]
    | None
)
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["string", "integer"], FORM: "size", "examples": ["4GiB", 65536]}),
]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", FORM: "duration", "examples": ["30s", "15m", "2h"]}),
]
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", FORM: "path"})]
