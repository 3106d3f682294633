"""Text from outside: names of VMs, messages of hosts, paths, names of objects.

Any of it may hold characters that move the cursor, break a line, reverse the text around them or cannot be
encoded. People and logs get it without them, JSON documents get them as escapes.
"""

from __future__ import annotations

import re
import unicodedata

# Control characters (C0, DEL, C1), line and paragraph separators, bidi controls, invisible format characters
# and tags, halves of surrogate pairs. Joiners stay: names in several scripts and emoji need them.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
# A line break with the space around it; messages from hosts have them.
_LINE_BREAK = re.compile(r"\s*[\n\r\x85\u2028\u2029]\s*")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_USERS = re.compile(r"://[^/?#\s]*@")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Letters of somebody else's text in an error.
MAX_REASON = 300


def one_line(text: str, letters: int | None = None) -> str:
    """Text on one line, cut to that many letters; nothing else is changed."""
    return " ".join(text.split())[:letters]


def shortened(text: str, letters: int) -> str:
    """Text of at most that many letters; a longer one ends in dots."""
    return text if len(text) <= letters else f"{text[: letters - 10]}..."


def counted(count: int, what: str) -> str:
    """A number of things: ``1 point``, ``2 points``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def without_users(text: str) -> str:
    """The text of a library without the users and passwords of URLs in it, such as those of a proxy."""
    return _USERS.sub("://", text)


def has_controls(text: str) -> bool:
    """Whether it has ASCII control characters, which no name, address or setting has."""
    return _CONTROL.search(text) is not None


def folded(text: str) -> str:
    """The same text for names that differ in nothing but letter case and Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def cleaned(text: str) -> str:
    """Text on one line, each character that could deceive a reader replaced by U+FFFD."""
    return without_controls(_LINE_BREAK.sub(" ", text))


def without_controls(text: str) -> str:
    """As :func:`cleaned`, but line breaks are replaced like any other control character."""
    return _UNSAFE_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)


def json_escaped(document: str) -> str:
    """A JSON document with the characters that :func:`cleaned` replaces as escapes.

    Line breaks between its values stay. Halves of surrogate pairs become U+FFFD, since many parsers refuse
    them as escapes, too.
    """
    return _UNSAFE_CHARACTER.sub(_escape, _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", document))


def json_ascii(document: str) -> str:
    """A JSON document with all characters beyond ASCII as escapes."""
    return _BEYOND_ASCII.sub(_escape, document)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\n":
        return character
    data = character.encode("utf-16-be")
    return "".join(f"\\u{data[at]:02x}{data[at + 1]:02x}" for at in range(0, len(data), 2))
