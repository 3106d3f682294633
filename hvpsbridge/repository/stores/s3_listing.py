"""Listing a bucket by its own protocol, for names that obstore does not take.

obstore refuses a listing as a whole if one of its names has an empty part, ``..`` or a control character.
Anyone who can create objects can create one with such a name. So these listings are requested by a signed
URL and read here.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_plus
from xml.parsers import expat

from hvpsbridge.units import MIB

# A page has at most 1000 names of at most 1024 bytes, each of which three letters stand for.
MAX_PAGE_BYTES = 16 * MIB
MAX_VALUE_LETTERS = 8192
_VALUES = frozenset({"Key", "Size", "IsTruncated", "NextContinuationToken", "EncodingType"})


class BadListing(ValueError):
    """An answer that is not a listing."""


@dataclass(slots=True)
class Page:
    """Part of a listing: names with sizes, and the token of the next part, empty for none."""

    names: list[tuple[str, int]] = field(default_factory=list)
    token: str = ""


def pages(prefix: str, sign: Callable[[str], str], timeout_seconds: float) -> Iterator[Page]:
    """All names that begin with ``prefix``, in pages.

    Args:
        prefix: of the names.
        sign: the URL of a GET of the bucket with this query.
        timeout_seconds: of each request.

    Raises:
        OSError: the server cannot be reached, or refuses.
        BadListing: its answer is not a listing.
    """
    query, seen = f"list-type=2&encoding-type=url&prefix={quote(prefix, safe='')}", set[str]()
    token = ""
    while True:
        url = sign(query + (f"&continuation-token={quote(token, safe='')}" if token else ""))
        page = read_page(_fetch(url, timeout_seconds))
        yield page
        token = page.token
        if not token:
            return
        if token in seen:
            raise BadListing("the server repeats a page")
        seen.add(token)


def read_page(data: bytes) -> Page:
    """The page in an answer.

    Raises:
        BadListing: it is none.
    """
    values: list[tuple[str, str]] = []
    path: list[str] = []
    text: list[str] = []

    def start(name: str, _: object) -> None:
        path.append(name.rpartition(":")[2])
        text.clear()
        if len(path) > 8:
            raise BadListing("the listing is nested too deep")

    def characters(piece: str) -> None:
        if path[-1] in _VALUES:
            text.append(piece)
            if sum(map(len, text)) > MAX_VALUE_LETTERS:
                raise BadListing("the listing has a value that is too long")

    def end(_: str) -> None:
        name = path.pop()
        if name in _VALUES and path in (["ListBucketResult"], ["ListBucketResult", "Contents"]):
            values.append((name, "".join(text)))

    def declare(*_: object) -> None:
        raise BadListing("the listing declares entities")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, declare
    try:
        parser.Parse(data, True)
    except expat.ExpatError as err:
        raise BadListing(f"the listing cannot be read: {err}") from err
    return _page(values)


def _page(values: list[tuple[str, str]]) -> Page:
    single = {name: value for name, value in values if name not in ("Key", "Size")}
    if "IsTruncated" not in single:
        raise BadListing("the answer is not a listing")
    keys = [value for name, value in values if name == "Key"]
    sizes = [value for name, value in values if name == "Size"]
    if len(keys) != len(sizes) or not all(size.isdecimal() and len(size) < 20 for size in sizes):
        raise BadListing("the listing has names without sizes")
    if single.get("EncodingType") == "url":
        keys = [unquote_plus(key) for key in keys]
    token = single.get("NextContinuationToken", "") if single["IsTruncated"] == "true" else ""
    return Page(list(zip(keys, map(int, sizes), strict=True)), token)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """None: a redirect is an error."""


def _fetch(url: str, timeout_seconds: float) -> bytes:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(url, timeout=timeout_seconds) as answer:
            data: bytes = answer.read(MAX_PAGE_BYTES + 1)
    except urllib.error.HTTPError as err:
        # Its text as obstore has it, which names the status to the caller.
        raise OSError(f"status {err.code} {err.reason}") from None
    except urllib.error.URLError as err:
        raise OSError(str(err.reason)) from None
    if len(data) > MAX_PAGE_BYTES:
        raise BadListing("the listing is too long")
    return data
