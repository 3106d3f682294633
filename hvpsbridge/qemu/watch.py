"""Decides whether a guest has booted, from what is seen of it. Pure: times are given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hvpsbridge.qemu.picture import Picture
from hvpsbridge.qemu.screens import Seen, Stage, look_at, read

# Of the serial line; a guest may write for ever.
_KEPT = 64 * 1024
_SERIAL_LINES = 40
_LOGIN = re.compile(r"\blogin: *(?:\r|\n|$)")
# Colours and places of the cursor (ECMA-48).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78cM])")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a boot came to.

    Attributes:
        shown: whether the guest booted; otherwise that is not shown, and it may all the same.
        by: serial, agent or screen; empty if it is not shown.
        what: what was seen, one line.
    """

    shown: bool
    by: str
    what: str


class Watch:
    """What was seen of one guest. Looks must come in the order of their times.

    Args:
        stay_seconds: how long a screen of the system, or a failure, must stay.
        mark: text on the serial line that says that the guest is up; a login prompt does in any case.
    """

    def __init__(self, stay_seconds: float, mark: str = "") -> None:
        self._stay_seconds = stay_seconds
        self._mark = mark
        self._text = ""
        self._serial = Seen(Stage.NOTHING, "no text")
        self._screen = Seen(Stage.NOTHING, "no screen")
        self._stage = Stage.NOTHING
        self._since = 0.0

    def serial(self, text: str) -> Outcome | None:
        """More text from the serial line."""
        self._text = (self._text + text)[-_KEPT:]
        plain = _ESCAPES.sub("", self._text)
        if self._mark and self._mark in plain:
            return Outcome(True, "serial", f"the mark {self._mark!r} came on the serial line")
        if _LOGIN.search(plain):
            return Outcome(True, "serial", "a login prompt came on the serial line")
        self._serial = read(plain.splitlines()[-_SERIAL_LINES:])
        return None

    def agent(self) -> Outcome:
        """The guest agent answered."""
        return Outcome(True, "agent", "the guest agent answered")

    def look(self, now: float, picture: Picture) -> Outcome | None:
        """A screenshot.

        Args:
            now: in seconds, from any start.
            picture: the screen.
        """
        self._screen = look_at(picture)
        seen = self._serial if self._serial.stage is Stage.FAILURE else self._screen
        if seen.stage is not self._stage:
            self._stage, self._since = seen.stage, now
        stayed = now - self._since >= self._stay_seconds
        if stayed and seen.stage is Stage.SYSTEM:
            what = f"the screen of a running system stayed for {self._stay_seconds:.0f} s: {seen.what}"
            return Outcome(True, "screen", what)
        if stayed and seen.stage is Stage.FAILURE:
            return Outcome(False, "", seen.what)
        return None

    def ended(self, why: str) -> Outcome:
        """The outcome when nothing was shown until the end.

        Args:
            why: what ended it, for example that time was up.
        """
        return Outcome(False, "", f"{why}; last seen: {self._screen.stage}, {self._screen.what}")
