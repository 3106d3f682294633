"""Whatever the repository cites is in it or public: facts, pages, anchors, sources."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
FACTS = CHECKOUT / "docs" / "hyperv-facts.md"
PAGES = (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")))
# Binary, or written by a program.
# Tables name pages of Microsoft's repositories.
NO_TEXT = ("tests/golden/", "tools/documented/tables/")
# This file holds examples of what no other may hold.
EXAMPLES = "tests/test_citations.py"
# These name the folder beside a checkout in which CI finds its PowerShell.
NAME_SHARED_FOLDER = {".ci/run", "Makefile"}

# A comment goes on over lines: its marks and the ends of lines are one space.
_LINE_ENDS = re.compile(r"\s*\n[\s#/*]*|\s+")
# Numbered sections are of an RFC or of an open specification, never of a document that no reader has.
_SECTION = re.compile(r"(?P<before>.{0,40})\b(?:sections?|§) ?\d+(?:\.\d+)*")
_PUBLIC = re.compile(r"\bRFC \d+|\[?MS-[A-Z]+\]?")
_PRIVATE = re.compile(
    r"\b(?:reference|design) sections?\b|\(reference \d|\breference \d+\.\d|(?<![\w/.-])reference/\w"
)
_PAGE_NAME = re.compile(r"(?<![\w/.:-])(?P<name>[\w./-]*\w\.md)\b")
_CITATION = re.compile(r"hyperv-facts(?:\.md)?#(?P<anchor>[\w-]+)")
_LINK = re.compile(r"\]\((?P<page>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_DEFINITION = re.compile(r"^\[(?P<label>[^\]]+)\]: (?P<url>\S+)$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+)$", re.MULTILINE)
_ANCHOR = re.compile(r'<a id="(?P<anchor>[^"]*)"></a>')
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@cache
def tracked() -> dict[str, str]:
    """The text of every tracked file that is text, by its path."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, stdout=subprocess.PIPE, check=True)
    texts = {}
    for name in listed.stdout.decode().split("\0"):
        path = CHECKOUT / name
        if name and path.is_file() and not name.startswith(NO_TEXT):
            try:
                texts[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
    return texts


def anchors(page: Path) -> set[str]:
    """Where links into a page can lead: what is marked, and each heading as GitHub names it."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    found = {match["anchor"] for match in _ANCHOR.finditer(text)}
    for match in _HEADING.finditer(text):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", _ANCHOR.sub("", match["text"])).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        # A heading that comes again gets a number.
        number = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(?:-\d+)?", other))
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of the page: its anchor, what it says, and its list of notes."""

    anchor: str
    text: str
    notes: tuple[str, ...]

    def note(self, start: str) -> str | None:
        """What a note says after ``start``; None when there is no such note."""
        return next((note.removeprefix(start).strip() for note in self.notes if note.startswith(start)), None)


def facts() -> Iterator[Fact]:
    text = _DEFINITION.sub("", FACTS.read_text(encoding="utf-8"))
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = section.partition("\n")
        body = re.split(r"^## ", rest, flags=re.MULTILINE)[0]
        said, *notes = re.split(r"^- ", body, flags=re.MULTILINE)
        (anchor,) = _ANCHOR.findall(heading)
        yield Fact(anchor, " ".join(said.split()), tuple(" ".join(note.split()) for note in notes))


def private_citations(name: str, text: str) -> Iterator[str]:
    """What a file cites that is neither in the repository nor public."""
    text = _LINE_ENDS.sub(" ", text)
    for match in _PRIVATE.finditer(text):
        yield match[0]
    for match in _SECTION.finditer(text):
        if not _PUBLIC.search(match["before"]):
            yield match[0]
    if name not in NAME_SHARED_FOLDER:
        yield from re.findall(r"\.\./shared\S*", text)
    folders = (CHECKOUT / name).parent, CHECKOUT, CHECKOUT / "docs"
    for match in _PAGE_NAME.finditer(text):
        if not any((folder / match["name"]).is_file() for folder in folders):
            yield match["name"]


@pytest.mark.parametrize(
    "text",
    [
        "An attach is exclusive (reference section 3.2).",
        "# the same names (reference\n# section 4), always by id",
        "// the other (reference 0.1, 9). A packed request",
        "Process exit codes (design section 9).",
        "for this VM (section 6.3).",
        "recordings show 4 (transport.md).",
        "the findings are in ../shared/x",
    ],
)
def test_a_citation_of_a_private_document_is_seen(text: str) -> None:
    assert list(private_citations("hvpsbridge/x.py", text))


@pytest.mark.parametrize(
    "text",
    [
        "numbers of the protocol (RFC 4120 section 7.5.9)",
        "MS-PSRP 2.2.4: object id, fragment id",
        "a reference point of type 2, see docs/architecture.md and stores.md",
        "https://example.net/page.md",
    ],
)
def test_a_citation_of_something_public_is_not(text: str) -> None:
    assert not list(private_citations("docs/x.md", text))


def test_no_file_cites_a_document_that_its_reader_does_not_have() -> None:
    found = {
        name: list(private_citations(name, text)) for name, text in tracked().items() if name != EXAMPLES
    }
    assert {name: cited for name, cited in found.items() if cited} == {}


def test_every_citation_of_a_fact_leads_to_one() -> None:
    known = anchors(FACTS)
    for name, text in tracked().items():
        for match in _CITATION.finditer(text):
            assert match["anchor"] in known, f"{name}: no fact {match['anchor']}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_an_anchor(page: Path) -> None:
    for match in _LINK.finditer(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / match["page"] if match["page"] else page
        assert target.exists(), f"{page.name}: {match[0]}"
        if match["anchor"] and target.suffix == ".md":
            assert match["anchor"] in anchors(target), f"{page.name}: {match[0]}"


def test_every_fact_has_an_anchor_of_its_own() -> None:
    names = [fact.anchor for fact in facts()]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", name), name


def test_every_fact_has_a_source_and_says_whether_it_was_confirmed() -> None:
    urls = dict(_DEFINITION.findall(FACTS.read_text(encoding="utf-8")))
    for fact in facts():
        assert fact.text, fact.anchor
        source = fact.note("Source:") or ""
        assert re.fullmatch(r"\[[^\]]+\](?:, \[[^\]]+\])*", source), fact.anchor
        for label in re.findall(r"\[([^\]]+)\]", source):
            assert urls[label].startswith("https://"), label
        confirmed = fact.note("Confirmed on hardware:") or ""
        assert re.match(r"(?:no|by others)\b", confirmed), fact.anchor
        starts = ("Source:", "Confirmed on hardware:", "Known gap:", "Background.")
        assert all(note.startswith(starts) for note in fact.notes), fact.anchor


def test_every_knob_and_fault_that_a_fact_names_is_on_the_page_of_the_simulated_host() -> None:
    told = (CHECKOUT / "docs" / "simulated-host.md").read_text(encoding="utf-8")
    for fact in facts():
        _, _, simulator = (fact.note("Confirmed on hardware:") or "").partition("Simulator:")
        for name in re.findall(r"`([^`]+)`", simulator):
            assert f"`{name}`" in told, f"{fact.anchor}: {name}"


def test_every_fact_is_cited_or_marked_as_background() -> None:
    cited = {
        match["anchor"]
        for name, text in tracked().items()
        if CHECKOUT / name != FACTS
        for match in _CITATION.finditer(text)
    }
    background = {fact.anchor for fact in facts() if fact.note("Background.") is not None}
    assert {fact.anchor for fact in facts()} - cited == background


def test_every_source_is_used() -> None:
    text = FACTS.read_text(encoding="utf-8")
    labels = {label for label, _ in _DEFINITION.findall(text)}
    used = {label for fact in facts() for label in re.findall(r"\[([^\]]+)\]", fact.note("Source:") or "")}
    assert labels == used
