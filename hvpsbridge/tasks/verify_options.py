"""What may be asked of the task ``verify``."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from hvpsbridge.options import Option, TextForm, Unit
from hvpsbridge.qemu.guest import Accelerator
from hvpsbridge.repository.check.coverage import Budget
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.tasks.boots import STAY_SECONDS, WAIT_SECONDS, BootOptions
from hvpsbridge.units import parse_duration, parse_size


class Points(StrEnum):
    """Which recovery points of a VM."""

    LATEST = "latest"
    ALL = "all"


def parse_part(text: str) -> tuple[int, int]:
    """Numerator and denominator of a part such as ``1/14``.

    Raises:
        ValueError: it is not a part, or more than the whole.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ValueError("must be n/m with n not greater than m, for example 1/14")
    return int(match[1]), int(match[2])


def parse_budget(text: str) -> Budget:
    """The budget in a text such as ``45m`` or ``500GiB``.

    Raises:
        ValueError: it is neither a duration nor a size with a unit.
    """
    if not text.strip()[-1:].isdigit():
        with contextlib.suppress(ValueError):
            return Budget(seconds=parse_duration(text))
        with contextlib.suppress(ValueError):
            return Budget(size_bytes=parse_size(text))
    raise ValueError("must be a time or a size with its unit, for example 45m or 500GiB")


BUDGET = TextForm(
    read=parse_budget,
    name="time or size, as `45m` or `500GiB`",
    pattern=r"^[\d.]+ *[A-Za-z]+$",
    examples=("45m", "500GiB"),
    metavar="TIME|SIZE",
)
PART = TextForm(read=parse_part, name="part, as `1/14`", pattern=r"^[1-9]\d*/[1-9]\d*$", examples=("1/14",))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """Task `verify`: check recovery points of the selected VMs and what they need; not key slots, ids, ledger
    and `restore.py`, which `hvps verify` without points checks, too."""

    level: Annotated[
        Level,
        Option(
            "`written`: check that everything exists; `hashed`: also read and hash every chunk; "
            "`readable`: check that everything exists, open file systems and read a sample of files; "
            "`boots`: check that everything exists, and boot in QEMU without a network"
        ),
    ] = Level.HASHED
    points: Annotated[Points, Option("which points")] = Points.LATEST
    subset: Annotated[
        tuple[int, int] | None, Option("part of the data, a different part each day", form=PART)
    ] = None
    budget: Annotated[
        Budget | None,
        Option(
            "with the level `hashed`: how long to read packs, or how many bytes of them, first those that "
            "were not read for longest; all trees are walked in any case",
            form=BUDGET,
        ),
    ] = None
    boot_wait: Annotated[float, Option("how long a boot may take", unit=Unit.SECONDS, more_than=0)] = (
        WAIT_SECONDS
    )
    boot_stay: Annotated[
        float,
        Option("how long the screen of a booted system must stay", unit=Unit.SECONDS, more_than=0),
    ] = STAY_SECONDS
    boot_mark: Annotated[
        str, Option("text on the serial line that says that the guest is up; a login prompt does, too")
    ] = ""
    screenshots: Annotated[
        Path | None,
        Option("folder of screenshots of boots; without it the folder screenshots of the state folder"),
    ] = None
    accelerator: Annotated[
        Accelerator | None,
        Option("what QEMU runs the guest by; without it KVM, or TCG where that is not possible"),
    ] = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.level is not Level.HASHED:
            raise ValueError("a budget is only possible with the level hashed")
        if self.budget is not None and self.subset is not None:
            raise ValueError("use either a budget or a subset, not both")

    @property
    def boot(self) -> BootOptions:
        """How boots are watched."""
        return BootOptions(
            wait_seconds=self.boot_wait,
            stay_seconds=self.boot_stay,
            mark=self.boot_mark,
            screenshots=self.screenshots,
            accelerator=self.accelerator,
        )


def parts_of_day(subset: tuple[int, int] | None, day: date) -> tuple[tuple[int, int], ...]:
    """Parts of the chunks to verify on ``day``, as (part, count) with parts from 1.

    ``(1, 14)`` gives a different fourteenth each day, and all of them in two weeks; ``(2, 14)`` gives two a
    day.
    """
    if subset is None:
        return ((1, 1),)
    wanted, count = subset
    first = day.toordinal() * wanted
    return tuple(((first + step) % count + 1, count) for step in range(min(wanted, count)))
