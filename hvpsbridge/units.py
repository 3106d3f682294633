"""Sizes in bytes and durations in seconds: constants, parsing and text."""

from __future__ import annotations

import re

from hvpsbridge.text import counted, shortened

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_FACTORS = {
    "": 1,
    "B": 1,
    "K": KIB,
    "KIB": KIB,
    "M": MIB,
    "MIB": MIB,
    "G": GIB,
    "GIB": GIB,
    "T": TIB,
    "TIB": TIB,
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# The largest file offset, and what dates and timers can still take.
MAX_SIZE_BYTES = (1 << 63) - 1
MAX_DURATION_SECONDS = 365 * 86400.0
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes in a text such as ``64KiB``, ``1.5 GiB`` or ``4096``.

    Raises:
        ValueError: the text is not a number with a binary unit, not a whole number of bytes, or too large.
    """
    match = _SIZE.fullmatch(text)
    if match is None or match[2].upper() not in _FACTORS:
        raise ValueError(f"{shortened(text, 40)!r} is not a size; use for example 64KiB, 512MiB or 4GiB")
    amount = float(match[1]) * _FACTORS[match[2].upper()]
    if amount > MAX_SIZE_BYTES:
        raise ValueError(f"{shortened(text, 40)!r} is too large for a size")
    if amount != int(amount):
        raise ValueError(f"{shortened(text, 40)!r} is not a whole number of bytes")
    return int(amount)


def parse_duration(text: str) -> float:
    """Seconds in a text such as ``90s``, ``15m``, ``2h`` or ``7d``.

    Raises:
        ValueError: the text is not a number with one of the units s, m, h, d and w, or more than a year.
    """
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in _DURATIONS:
        raise ValueError(f"{shortened(text, 40)!r} is not a duration; use for example 30s, 15m, 2h or 7d")
    seconds = float(match[1]) * _DURATIONS[match[2]]
    if seconds > MAX_DURATION_SECONDS:
        raise ValueError(
            f"{shortened(text, 40)!r} is too long; use at most {MAX_DURATION_SECONDS / 86400:.0f}d"
        )
    return seconds


def size_text(count_bytes: int) -> str:
    """A size for people, in binary units with at most one decimal: ``1.5 GiB``."""
    amount, unit = float(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if amount == int(amount) else f"{amount:.1f} {unit}"


def plain_size(count_bytes: int) -> str:
    """Byte count as :func:`parse_size` reads it: ``64KiB``."""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count_bytes and count_bytes % factor == 0:
            return f"{count_bytes // factor}{unit}"
    return str(count_bytes)


def plain_duration(seconds: float) -> str:
    """Duration as :func:`parse_duration` reads it: ``15m``."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s"


def duration_text(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def span_text(seconds: float) -> str:
    """A long time, for people: in hours from one hour on, in days from two days on."""
    hours = seconds / 3600
    if hours < 1:
        return duration_text(seconds)
    count, unit = (round(hours), "hour") if hours < 48 else (round(hours / 24), "day")
    return counted(count, unit)


def rate_text(count_bytes: int, seconds: float) -> str:
    """A transfer rate for people; a dash if no time passed."""
    return f"{size_text(int(count_bytes / seconds))}/s" if seconds > 0 else "-"
