"""Any text in CLIXML is read, as PowerShell writes it."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.host.psrp.safe_xml import UnusableReply, check_clixml, check_xml
from hvpsbridge.host.psrp.strings import clixml_text
from hvpsbridge.sim.engines.clixml import escape


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("web_xprod_01", "web_xprod_01"),
        ("web_x005F_xprod_01", "web_xprod_01"),
        ("a_x000A_b_x000d_", "a\nb\r"),
        ("_xD83D__xDE00_", "\N{GRINNING FACE}"),
        ("cut _xD83D_", "cut \N{REPLACEMENT CHARACTER}"),
        ("_xDE00_ cut", "\N{REPLACEMENT CHARACTER} cut"),
        ("_x00_ _x0041", "_x00_ _x0041"),
        ("_x005G_ _x005f_", "_x005G_ _"),
        ("_x005F__x000A_", "_\n"),
        # Hexadecimal digits in UTF-16, were it read byte by byte.
        ("_x\u6100\u6200\u6300\u6400_", "_x\u6100\u6200\u6300\u6400_"),
        ("", ""),
    ],
)
def test_escapes_are_read_and_everything_else_is_text(written: str, text: str) -> None:
    assert clixml_text(written) == text


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffe\uffff<>&")))
def test_what_the_simulator_writes_is_read_again(text: str) -> None:
    assert clixml_text(escape(text)) == text


def test_checked_xml_leaves_no_work_for_the_garbage_collector() -> None:
    """A run over many VMs would otherwise grow by a parser for each reply."""
    gc.collect()
    gc.disable()
    try:
        check_xml(b"<a><Obj/></a>")
        check_clixml(b"<a><Obj>")
        with pytest.raises(UnusableReply):
            check_xml(b"<!DOCTYPE a><a/>")
        assert not any(type(one).__name__ == "xmlparser" for one in gc.get_objects())
    finally:
        gc.enable()
