"""Types of values in a playbook: what text they take, what they become, what the JSON Schema says.

Every scalar is strict: no number where text is wanted and no text where a number is wanted, except where
a type here says that it reads both (sizes and durations).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Strict, StringConstraints, WithJsonSchema

from hvpsbridge.units import parse_duration, parse_size


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError("a size is wanted; write for example 64KiB, 512MiB or 4GiB")


def _duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("a duration with its unit is wanted; write for example 30s, 15m, 2h or 7d")


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("a path is wanted")
    return Path(value).expanduser()


def _fraction(value: object) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", value) if isinstance(value, str) else None
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError("a part is wanted as n/m with n up to m; write for example 1/14")
    return int(match[1]), int(match[2])


def _target(value: object) -> str:
    kind, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not rest or kind not in TARGET_KINDS:
        raise ValueError(f"a target is wanted as {' or '.join(f'{kind}:PATH' for kind in TARGET_KINDS)}")
    return f"{kind}:{rest}"


def disk_pattern(value: str) -> str:
    """A pattern of disks, as a playbook or ``--exclude-disk`` gives it.

    Raises:
        ValueError: it could never fit a disk.
    """
    if re.match(r"(ide|scsi|pmem) ", value, re.IGNORECASE) or "\\" in value or "*" in value:
        return value
    raise ValueError(f"{value!r} fits no disk; write for example 'scsi 0:1' or '*\\scratch.vhdx'")


def _no_control_characters(value: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("holds control characters")
    return value


# How every dataclass of a playbook's keys is checked.
STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False)

# Key of the JSON Schema under which a type says its name, for docs/playbook.md.
KIND = "x-kind"

# What a restore can write: raw is a plain image, one file a disk.
TARGET_KINDS = ("raw",)

Text = Annotated[str, Strict(), StringConstraints(min_length=1), AfterValidator(_no_control_characters)]
DiskPattern = Annotated[Text, AfterValidator(disk_pattern)]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Scalar = Annotated[bool, Strict()] | Annotated[int, Strict()] | Annotated[float, Strict()] | str | None
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["string", "integer"], KIND: "size", "examples": ["4GiB", 65536]}),
]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", KIND: "duration", "examples": ["30s", "15m", "2h"]}),
]
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", KIND: "path"})]
Fraction = Annotated[
    tuple[int, int],
    BeforeValidator(_fraction),
    WithJsonSchema(
        {"type": "string", KIND: "part, as `1/14`", "pattern": r"^[1-9]\d*/[1-9]\d*$", "examples": ["1/14"]}
    ),
]
Target = Annotated[
    str,
    BeforeValidator(_target),
    WithJsonSchema({"type": "string", KIND: "`raw:`path", "examples": ["raw:/restore"]}),
]
