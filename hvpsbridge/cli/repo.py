"""``hvps repo``: make a repository, and see what its store can be trusted with."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec, size_bytes
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.repositories import IndexRebuilt, RepositoryCreated, StoreProbed
from hvpsbridge.report.views import Table
from hvpsbridge.repository import DEFAULT_CHUNK_BYTES, RebuildReport, create_repository
from hvpsbridge.repository.probe import probe as probe_store
from hvpsbridge.units import size_text

# Progress is told each time so many packs were read.
PACKS_TOLD = 1000


@click.group("repo")
def repo_() -> None:
    """Make repositories, look at their stores, mend their index."""


@repo_.command("init")
@click.argument("url", required=False)
@click.option(
    "--chunk",
    "chunk_bytes",
    callback=size_bytes,
    metavar="SIZE",
    help=f"Chunk size, 64KiB to 1MiB, fixed for ever; {size_text(DEFAULT_CHUNK_BYTES)} without it.",
)
@click.option("--plain", is_flag=True, help="Without a key: whoever reads the store reads the backups.")
@repository_options
@json_option
@click.pass_obj
def init(
    invocation: Invocation,
    /,
    url: str | None,
    chunk_bytes: int | None,
    plain: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make a repository at URL (or --repo, HVPS_REPO, the configuration file).

    It is sealed with the key that an option names, or that is asked for on a terminal.
    """
    if url is not None:
        if options["repo"] is not None:
            raise click.UsageError("URL and --repo name the repository twice")
        options["repo"] = url
    spec = repository_spec(options, invocation)
    if plain and spec.key is not None:
        raise click.UsageError("--plain and a key exclude each other")
    key = compose.repository_key(spec, invocation)
    if key is None and not plain and invocation.can_ask:
        key = invocation.new_secret(f"key of {spec.url}")
    try:
        with interrupting():
            made = create_repository(
                spec.url,
                chunk_bytes=chunk_bytes or DEFAULT_CHUNK_BYTES,
                key=key,
                cache_folder=spec.cache,
            )
            invocation.closing.enter_context(made)
    except ValueError as err:
        raise click.BadParameter(str(err), param_hint="--chunk") from err
    if not made.sealed and not plain:
        console.note(
            f"hvps: {made.url} is plain: whoever can read the store can read the backups; "
            "give a key for a sealed one"
        )
    if as_json:
        console.document(RepositoryCreated(made.repository_id, made.url, made.grid.chunk_bytes, made.sealed))
        return
    kind = "sealed" if made.sealed else "plain"
    console.line(
        f"made {kind} repository {made.repository_id} at {made.url}, "
        f"chunks of {size_text(made.grid.chunk_bytes)}"
    )
    if made.sealed:
        console.line("now export its key and keep it apart: hvps key export")


@repo_.command("rebuild-index", short_help="Make a lost or damaged index again.")
@click.option("--check", is_flag=True, help="Only say what would be done.")
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def rebuild(invocation: Invocation, /, check: bool, as_json: bool, quiet: bool, **options: Any) -> ExitCode:
    """Make a lost or damaged index again from what the packs say of themselves.

    Every pack that no index names is named in a new one; index objects that cannot be read are superseded,
    and removed where the store lets them go. Runs at work are waited for (exit 11). Exit 7 when a pack is
    left that only a damaged index object could tell of.
    """

    def tell(done: int, count: int) -> None:
        if not quiet and (done == count or done % PACKS_TOLD == 0):
            console.note(f"{done} of {count} packs read")

    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        report = repository.rebuild_index(invocation.run_id, check=check, told=tell)
    if as_json:
        console.document(IndexRebuilt(check, report.whole, report))
    else:
        _tell_rebuilt(report, check)
    return ExitCode.DONE if report.whole else ExitCode.DAMAGE


def _tell_rebuilt(report: RebuildReport, check: bool) -> None:
    kept = set(report.kept)
    rows = [
        (name, "superseded; the store did not let it go" if name in kept else "superseded and removed")
        for name in report.superseded
    ]
    rows += [(name, "damaged") for name in report.damaged if name not in report.superseded]
    rows += [(name, f"named by no index; {what}") for name, what in report.unreadable]
    if rows:
        console.table(Table("index", ("object", "what"), tuple(rows)))
    verb = "would be named" if check else "named"
    console.line(
        f"{len(report.named)} of {report.packs} packs {verb} again, {report.frames} chunks and nodes in them"
        + ("" if report.whole else "; NOT whole: hvps verify says which points this touches")
    )


@repo_.command("probe")
@click.argument("url", required=False)
@repository_options
@json_option
@click.pass_obj
def probe(invocation: Invocation, /, url: str | None, as_json: bool, **options: Any) -> ExitCode:
    """Try what the store at URL does, before a repository is kept there.

    Exit 10 when it breaks what a repository needs. Tried with objects of its own, which are removed as
    far as the credentials allow.
    """
    if url is not None:
        options["repo"] = url
    spec = repository_spec(options, invocation)
    with interrupting():
        report = probe_store(spec.url)
    if as_json:
        console.document(StoreProbed(report.fit, report))
    else:
        rows = tuple(
            (finding.question, finding.holds.value, "yes" if finding.needed else "", finding.detail)
            for finding in report.findings
        )
        console.table(Table(f"store {report.url}", ("question", "holds", "needed", "seen"), rows))
        console.line("fit for a repository" if report.fit else "NOT fit for a repository")
    return ExitCode.DONE if report.fit else ExitCode.NO_REPOSITORY
