"""The kinds of store there are, by URL scheme, and the store that a URL names.

A new kind is one module with a class derived from ``Store`` and one line in :data:`STORES`. Modules are
imported when the first URL asks for them, so an extra is needed only by those who use it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from hvpsbridge.errors import ConfigurationError, NoRepository, ObjectMissing
from hvpsbridge.repository.stores.base import Store


@dataclass(frozen=True, slots=True)
class StoreKind:
    """One kind of store.

    Attributes:
        scheme: what its URLs begin with, without ``://``.
        module, class_name: where the class is.
        extra: the optional dependency group of this package that the module needs; empty for none.
        example: a URL that shows all it can hold.
    """

    scheme: str
    module: str
    class_name: str
    extra: str
    example: str

    def load(self) -> type[Store]:
        """The class.

        Raises:
            ConfigurationError: its extra is not installed.
        """
        try:
            module = importlib.import_module(f"hvpsbridge.repository.stores.{self.module}")
        except ImportError as err:
            if not self.extra:
                raise
            text = f"install hvpsbridge[{self.extra}] to use {self.scheme}:// repositories"
            raise ConfigurationError(self.scheme, text) from err
        return cast(type[Store], getattr(module, self.class_name))


STORES = {
    kind.scheme: kind
    for kind in (
        StoreKind("file", "local", "LocalStore", "", "file:///srv/hvps/main"),
        StoreKind("s3", "s3", "S3Store", "s3", "s3://bucket/prefix?endpoint=...&region=..."),
        StoreKind(
            "sftp", "sftp", "SftpStore", "sftp", "sftp://user@host:22/path?identity=FILE&known_hosts=FILE"
        ),
    )
}


def open_store(url: str, *, create: bool = False) -> Store:
    """The store at ``url``: a path, ``file:///path``, ``s3://bucket/prefix`` or ``sftp://user@host/path``.

    Args:
        url: the place; a path is short for ``file://``.
        create: create the place when it is missing (a directory; never a bucket).

    Raises:
        ConfigurationError: the URL is not valid, or its extra is not installed.
        NoRepository: there is no such place.
        StoreError: the store cannot be reached, or refuses the login.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        kind = STORES["file"]
    elif scheme in STORES:
        kind = STORES[scheme]
        _check_port(scheme, url)
    else:
        *others, last = STORES
        text = f"unsupported URL scheme {scheme}://; use {', '.join(others)} or {last}"
        raise ConfigurationError(url, text)
    try:
        return kind.load().from_url(url, create=create)
    except ObjectMissing as err:
        raise NoRepository(url) from err


def _check_port(scheme: str, url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as err:  # such as "[" without an IPv6 address
        raise ConfigurationError(f"{scheme}://", str(err)) from err
    try:
        valid = parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(f"{scheme}://", "port must be between 1 and 65535")


__all__ = ["STORES", "StoreKind", "open_store"]
