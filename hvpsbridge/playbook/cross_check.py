"""What no single key of a playbook can tell: names that must be declared, keys that do not fit together."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from hvpsbridge.host.connection import is_loopback
from hvpsbridge.playbook import load
from hvpsbridge.playbook.load import Tree
from hvpsbridge.playbook.places import Authentication, HostSpec
from hvpsbridge.playbook.problems import PlaybookProblem, nearest, path_text
from hvpsbridge.playbook.specs import PlaybookSpec


def cross_check(spec: PlaybookSpec, tree: Tree) -> Iterator[PlaybookProblem]:
    """Mistakes of a playbook whose keys are each right by themselves."""

    def problem(path: load.Path, what: str) -> PlaybookProblem:
        return PlaybookProblem(load.mark_of(tree, path), path_text(path), what)

    for name, host in spec.hosts.items():
        yield from (problem(("hosts", name, key), what) for key, what in host_problems(host))
    for index, play in enumerate(spec.plays):
        here: load.Path = ("plays", index)
        for number, pattern in enumerate(play.hosts):
            if not matching_hosts(spec, pattern):
                yield problem(
                    (*here, "hosts", number),
                    f"no host {pattern!r} in this file{nearest(pattern, spec.hosts)}",
                )
        if play.repository not in spec.repositories:
            yield problem(
                (*here, "repository"),
                f"no repository {play.repository!r} in this file"
                + nearest(play.repository, spec.repositories),
            )


def matching_hosts(spec: PlaybookSpec, pattern: str) -> tuple[str, ...]:
    """Names of the playbook's hosts that a pattern (``all`` or a shell pattern) stands for."""
    if pattern == "all":
        return tuple(spec.hosts)
    return tuple(name for name in spec.hosts if name == pattern or fnmatchcase(name, pattern))


def host_problems(host: HostSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with a host's keys together: pairs of key and text."""
    address = urlsplit(host.address if "//" in host.address else f"//{host.address}")
    try:
        name, _ = address.hostname, address.port
    except ValueError as err:
        yield "address", f"{host.address!r} is no address: {err}"
        return
    if not name or address.scheme not in {"", "http", "https"}:
        yield "address", f"{host.address!r} is no address; write https://host:5986, or a bare name"
        return
    if address.username is not None:
        yield "address", "a user does not stand in the address; use user and password"
    if host.auth is Authentication.BASIC and address.scheme == "http" and not is_loopback(name):
        yield "auth", "basic over plain http would send the password readable; use https, ntlm or kerberos"
    if host.auth is Authentication.KERBEROS and host.user is not None and "\\" in host.user:
        yield "user", f"kerberos knows no {host.user}; write user@REALM"
    # The others can take an account from the Kerberos credential cache.
    needs_account = host.auth in {Authentication.BASIC, Authentication.NTLM}
    if needs_account and (host.user is None or host.password is None):
        yield "auth", f"{host.auth} needs user and password"
