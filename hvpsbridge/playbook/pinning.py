"""Writes the fingerprint of a host into the text of a playbook or configuration file.

Everything else of the text stays, comments and layout included. The result is read again before it is
written: if it differs in anything but the fingerprint, the text is left to a person.
"""

from __future__ import annotations

import re

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.playbook.load import Keys, Scalar, parse, plain
from hvpsbridge.playbook.problems import Position

KEY = "fingerprint"
_PINNED = re.compile(r"""(["']?)[sS][hH][aA]256:[0-9A-Fa-f:]+\1""")


def host_keys(text: str, host: str, where: str) -> dict[str, str]:
    """The keys of a host that have text as their value, variables not filled in.

    Raises:
        PlaybookInvalid: the text is not YAML.
        ConfigurationError: it has no such host.
    """
    values = _host(text, host, where).entries
    return {name: one.text for name, one in values.items() if isinstance(one, Scalar)}


def with_fingerprint(text: str, host: str, fingerprint: str, where: str) -> str:
    """The text with that fingerprint for the host, added or replaced.

    Raises:
        PlaybookInvalid: the text is not YAML.
        ConfigurationError: it has no such host, or cannot be changed safely.
    """
    keys = _host(text, host, where)
    if "insecure" in keys.entries:
        raise ConfigurationError(where, f"remove insecure from host {host} first")
    by_hand = ConfigurationError(where, f"write this into host {host} by hand: {KEY}: {fingerprint}")
    pinned = keys.entries.get(KEY)
    if pinned is not None:
        start = _offset(text, pinned.mark)
        old = _PINNED.match(text, start)
        if old is None:
            raise by_hand
        changed = text[:start] + fingerprint + text[old.end() :]
    else:
        changed = _added(text, keys, f"{KEY}: {fingerprint}")
    expected = plain(parse(text, where)[0])
    assert isinstance(expected, dict), "it has hosts"
    expected["hosts"][host][KEY] = fingerprint
    try:
        found = plain(parse(changed, where)[0])
    except ConfigurationError:
        found = None
    if found != expected:
        raise by_hand
    return changed


def _host(text: str, host: str, where: str) -> Keys:
    tree = parse(text, where)[0]
    hosts = tree.entries.get("hosts") if isinstance(tree, Keys) else None
    named = hosts.entries.get(host) if isinstance(hosts, Keys) else None
    if not isinstance(named, Keys):
        known = ", ".join(hosts.entries) if isinstance(hosts, Keys) else "none"
        raise ConfigurationError(where, f"has no host {host}; its hosts: {known}")
    return named


def _added(text: str, keys: Keys, line: str) -> str:
    start = _offset(text, keys.mark)
    if text.startswith("{", start):
        comma = ", " if keys.entries else ""
        return f"{text[: start + 1]}{line}{comma}{text[start + 1 :].lstrip(' ')}"
    # On a line of its own after the address, so that comments stay before the keys that they are about.
    mark = keys.marks["address" if "address" in keys.entries else next(iter(keys.entries))]
    start, newline = _offset(text, mark), "\r\n" if "\r\n" in text else "\n"
    end = text.find(newline, start)
    end = len(text) if end < 0 else end
    return f"{text[:end]}{newline}{' ' * (mark.column - 1)}{line}{text[end:]}"


def _offset(text: str, mark: Position) -> int:
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: mark.line - 1])) + mark.column - 1
