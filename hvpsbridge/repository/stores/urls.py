"""URLs of repositories as people write them, checked before anything is opened.

No error repeats a part of a URL that may hold a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.text import has_controls

EXAMPLES = {
    "file": "file:///srv/hvps/main",
    "s3": "s3://bucket/prefix?endpoint=https://HOST:PORT&region=REGION",
    "sftp": "sftp://user@host:22/path?identity=FILE&known_hosts=FILE",
}
# Where the credentials of a store belong instead.
_CREDENTIALS = {
    "s3": "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, see docs/stores.md",
    "sftp": "; use an SSH key: identity=FILE, or an agent",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(r"(file|s3|sftp):", re.IGNORECASE)
# user@host:path, as scp takes it, or user:password@host.
_SCP = re.compile(r"[^/]*@[^/]*:|[^/]*:[^/]*@")
_ODD_PORT = re.compile(r"://[^/?#]*:[^/?#\d]")
# A URL within a URL, such as an endpoint, with a user.
_WITHIN = re.compile(r"://[^/?#&]*@")


def url_problem(url: str) -> str | None:
    """What is wrong with the URL of a repository, with what to write instead; None if nothing is."""
    plain = unquote(url) if "://" in url else url
    if has_controls(plain):
        return "a URL must not contain control characters"
    if "\ufffd" in plain and "\ufffd" not in url:
        return "the % escapes of a URL must be UTF-8"
    found = _SCHEME.match(url)
    if found is None:
        return _path_problem(url)
    scheme = found[1]
    if scheme.lower() in EXAMPLES and scheme not in EXAMPLES:
        return f"write {scheme.lower()}:// in lower case"
    if _has_credentials(url[found.end() :], scheme):
        return "a URL must not contain a password" + _CREDENTIALS.get(scheme, "")
    if scheme not in EXAMPLES:
        *others, last = EXAMPLES
        return f"unsupported URL scheme {scheme}://; use {', '.join(others)} or {last}"
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"brackets are for an IPv6 address: {scheme}://[fd00::1]/path"
    if parts.fragment or url.endswith("#"):
        return "a URL must not contain #" + ("; give a path instead of a URL" if scheme == "file" else "")
    if parts.netloc.rpartition("@")[2].count(":") > 1 and "[" not in parts.netloc:
        return f"an IPv6 address must be in brackets: {scheme}://[fd00::1]/path"
    try:
        valid = parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        slash = f"; a path begins with a slash: {EXAMPLES[scheme]}" if scheme == "sftp" else ""
        return f"the port must be between 1 and 65535{slash}"
    return None


def shown(url: str) -> str:
    """The URL as errors show it: only its scheme when it may contain a password."""
    if url_problem(url) is not None and ("@" in url or _ODD_PORT.search(url)):
        found = _SCHEME.match(url)
        return "repository URL" if found is None else f"{found[1]}://"
    return "".join(character for character in url if character.isprintable()) or "repository URL"


def check_url(url: str) -> None:
    """Return if the URL can be used.

    Raises:
        ConfigurationError: it cannot; the text says what to write instead.
    """
    if problem := url_problem(url):
        raise ConfigurationError(shown(url), problem)


def options_of(parts: SplitResult, allowed: Collection[str]) -> dict[str, str]:
    """The options after the question mark of a URL.

    Raises:
        ConfigurationError: one is unknown, empty or given twice.
    """
    where = f"{parts.scheme}://{parts.hostname or ''}"
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise ConfigurationError(where, f"has an unknown option; write {EXAMPLES[parts.scheme]}")
        if not value or name in options:
            raise ConfigurationError(where, f"{name} must be given once, with a value")
        options[name] = value
    return options


def _path_problem(path: str) -> str | None:
    """Of a URL without ``//``, which is the path of a directory."""
    if not path:
        return "the path is empty"
    if found := _ONE_SLASH.match(path):
        scheme = found[1].lower()
        return f"two slashes follow the scheme: {EXAMPLES[scheme]}; for a directory of that name write ./"
    if _SCP.match(path):
        return f"for an SSH server write {EXAMPLES['sftp']}; for a directory of that name write ./"
    return None


def _has_credentials(rest: str, scheme: str) -> bool:
    """Whether what follows the scheme names a password, or a user that the scheme has no use for."""
    if _WITHIN.search(rest):
        return True
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at:
        return scheme != "sftp" or ":" in unquote(user)
    if not authority and not rest.startswith("/"):
        return "@" in rest
    # A password may hold a slash: sftp://bob:pass/word@host/path.
    port = authority.partition(":")[2]
    return "@" in rest and bool(port) and not authority.startswith("[") and not port.isdigit()
