"""Which store a repository URL means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from hvpsbridge.errors import ConfigurationError, NoRepository, ObjectMissing
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.repository.stores.local import LocalStore


def open_store(url: str, *, create: bool = False) -> Store:
    """The store at ``url``: a path, ``file:///path``, ``s3://bucket/prefix`` or ``sftp://user@host/path``.

    Args:
        url: where.
        create: make the place when it is missing (a directory; never a bucket).

    Raises:
        ConfigurationError: the URL means nothing.
        NoRepository: there is no such place.
        StoreError: it cannot be reached or refuses us.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        return _local(url, Path(url), create)
    _refuse_nonsense(scheme, url)
    if scheme == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ConfigurationError(url, f"file:// with a host ({parts.netloc}); write file:///path")
        return _local(url, Path(unquote(parts.path)), create)
    # The extras are imported only when asked for.
    if scheme == "s3":
        from hvpsbridge.repository.stores.s3 import S3Store

        return S3Store(url)
    if scheme == "sftp":
        from hvpsbridge.repository.stores.sftp import SftpStore

        try:
            return SftpStore(url, create=create)
        except ObjectMissing as err:
            raise NoRepository(url) from err
    raise ConfigurationError(url, f"no store is called {scheme}://; there are file, s3 and sftp")


def _refuse_nonsense(scheme: str, url: str) -> None:
    """Brackets without an address, a port that is none: the same for every kind of store."""
    try:
        port = urlsplit(url).port
    except ValueError as err:
        raise ConfigurationError(f"{scheme}://", str(err)) from err
    if port == 0:
        raise ConfigurationError(f"{scheme}://", "there is no port 0")


def _local(url: str, path: Path, create: bool) -> Store:
    if not str(path) or str(path) == ".":
        raise ConfigurationError(url or "repository", "no path given")
    try:
        return LocalStore(path.expanduser().absolute(), create=create)
    except ObjectMissing as err:
        raise NoRepository(url) from err
