"""Any text as the address of a host or the URL of a repository: an error at most, and no password in it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.errors import ConfigurationError, HvpsError
from hvpsbridge.host.address import name_of, parse_address, with_port
from hvpsbridge.repository.stores.registry import STORES
from hvpsbridge.repository.stores.urls import check_url, shown, url_problem

PIECES = st.sampled_from(
    [
        *("https://", "sftp://", "s3://", "file://", "S3:", "//", "[", "]", "::1", "%25", "%ff", "%00"),
        *(
            "@",
            ":",
            "/",
            "?",
            "#",
            "&",
            "=",
            "endpoint=",
            "hv01",
            "5986",
            "~",
            "..",
            " ",
            "\n",
            "\ud800",
            "ü",
        ),
    ]
)
TEXT = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)
SCHEMES = st.sampled_from(["", "https://", "ftp://", *(f"{scheme}://" for scheme in STORES)])


@given(TEXT)
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    for use in (parse_address, name_of, lambda text: with_port(text, 5986)):
        with contextlib.suppress(ValueError):
            use(text)


@given(TEXT)
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    problem = url_problem(text)
    assert problem is None or "\n" not in problem
    assert shown(text).isprintable() or problem is None
    for scheme, kind in STORES.items():
        if problem is None and text.startswith(f"{scheme}://") and scheme == "s3":
            with contextlib.suppress(HvpsError):
                kind.load().from_url(text)


@given(SCHEMES, st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="@/?#"), max_size=9))
def test_a_password_is_in_no_error(scheme: str, noise: str) -> None:
    for user in ("bob:", f"bob{noise}:", f"{noise}:"):
        text = f"{scheme}{user}canary{noise}@hv01/path"
        with pytest.raises(ValueError, match=r"^(?!.*canary)"):
            parse_address(text)
        with pytest.raises(ConfigurationError, match=r"^(?!.*canary)"):
            check_url(text)
