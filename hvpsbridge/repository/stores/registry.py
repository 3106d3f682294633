"""The kinds of store there are, by URL scheme, and the store that a URL names.

A new kind is one module with a class derived from ``Store`` and one line in :data:`STORES`. Modules are
imported when the first URL asks for them, so an extra is needed only by those who use it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

from hvpsbridge.errors import ConfigurationError, NoRepository, ObjectMissing
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.repository.stores.urls import EXAMPLES, check_url


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
        StoreKind("file", "local", "LocalStore", "", EXAMPLES["file"]),
        StoreKind("s3", "s3", "S3Store", "s3", EXAMPLES["s3"]),
        StoreKind("sftp", "sftp", "SftpStore", "sftp", EXAMPLES["sftp"]),
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
    check_url(url)
    scheme, separator, _ = url.partition("://")
    kind = STORES[scheme if separator else "file"]
    try:
        return kind.load().from_url(url, create=create)
    except ObjectMissing as err:
        raise NoRepository(url, err.reason) from err


__all__ = ["STORES", "StoreKind", "open_store"]
