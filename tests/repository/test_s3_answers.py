"""Answers of S3 to a creation, from a scripted server: lost answers, time-outs, refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hvpsbridge.errors import ObjectExists, StoreError
from hvpsbridge.repository.stores import retry
from hvpsbridge.repository.stores.registry import open_store
from hvpsbridge.repository.stores.s3 import S3Store
from tests.certificates import issue, tls_server

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>said so</Message></Error>"


@dataclass
class Script:
    """A bucket in memory that obeys conditions, and scripted answers to the next PUTs.

    Attributes:
        instead: status and code for the next PUTs; with ``kept`` the object is stored all the same.
        puts: conditions that PUTs carried.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    instead: list[tuple[int, str, bool]] = field(default_factory=list)
    puts: list[str | None] = field(default_factory=list)

    def put(self, path: str, data: bytes, condition: str | None) -> tuple[int, str]:
        self.puts.append(condition)
        if self.instead:
            status, code, kept = self.instead.pop(0)
            if kept:
                self.objects.setdefault(path, data)
            return status, code
        if condition == "*" and path in self.objects:
            return 412, "PreconditionFailed"
        self.objects[path] = data
        return 200, ""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Script, S3Store]]:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*script.put(self.path, data, self.headers["If-None-Match"]))

        def do_GET(self) -> None:
            found = script.objects.get(self.path)
            self.answer(404, "NoSuchKey") if found is None else self.answer(200, "", found)

        def answer(self, status: int, code: str, body: bytes = b"") -> None:
            body = ERROR.format(code).encode() if code else body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"etag"')
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = open_store(
            f"s3://bucket/p?endpoint=http://127.0.0.1:{server.server_address[1]}&region=us-east-1"
        )
        assert isinstance(store, S3Store)
        yield script, store
        server.shutdown()


Answers = list[tuple[int, str, bool]]


@pytest.mark.parametrize(
    "answers",
    [
        [(500, "InternalError", True)],
        [(500, "InternalError", False)],
        [(503, "SlowDown", False), (500, "InternalError", True), (503, "SlowDown", False)],
        [(409, "ConditionalRequestConflict", False)],
        [(400, "RequestTimeout", False)],
        [(400, "RequestTimeout", True), (412, "PreconditionFailed", False)],
    ],
    ids=lambda answers: " ".join(f"{status}{' kept' if kept else ''}" for status, _, kept in answers),
)
def test_a_creation_whose_answer_was_lost_happens_once(
    script: tuple[Script, S3Store], answers: Answers
) -> None:
    bucket, store = script
    bucket.instead = list(answers)
    store.put("points/one", b"mine")
    assert store.get("points/one") == b"mine"
    assert set(bucket.puts) == {"*"}  # each attempt had the condition
    with pytest.raises(ObjectExists):
        store.put("points/one", b"mine")  # it was taken before, even though the bytes are equal


def test_a_name_that_another_took_while_our_answer_was_lost_is_taken(
    script: tuple[Script, S3Store],
) -> None:
    bucket, store = script
    bucket.instead = [(500, "InternalError", False)]
    bucket.objects["/bucket/p/points/one"] = b"theirs"
    with pytest.raises(ObjectExists):
        store.put("points/one", b"mine")
    assert store.get("points/one") == b"theirs"


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "permission denied"),
        (403, "SignatureDoesNotMatch", "permission denied"),
        (400, "ExpiredToken", "ExpiredToken"),
    ],
)
def test_a_refusal_is_told_at_once(script: tuple[Script, S3Store], status: int, code: str, says: str) -> None:
    bucket, store = script
    bucket.instead = [(status, code, False)] * 9
    with pytest.raises(StoreError, match=says):
        store.put("points/one", b"x")
    assert len(bucket.puts) == 1


def test_a_bucket_in_another_region_is_told_at_once(script: tuple[Script, S3Store]) -> None:
    bucket, store = script
    bucket.instead = [(400, "AuthorizationHeaderMalformed", False)] * 9
    with pytest.raises(StoreError, match="another region; add region=REGION"):
        store.put("points/one", b"x")
    assert len(bucket.puts) == 1


@pytest.mark.parametrize(
    ("names", "days", "trusted", "says"),
    [
        (("127.0.0.1",), (-1, 1), False, "not from a known CA; name the CA's PEM file with SSL_CERT_FILE"),
        (("hv01.example.net",), (-1, 1), True, "for another name"),
        (("127.0.0.1",), (-2, -1), True, "has expired"),
        (("127.0.0.1",), (1, 2), True, "is not valid yet"),
    ],
)
def test_each_fault_of_a_certificate_has_its_own_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    days: tuple[int, int],
    trusted: bool,
    says: str,
) -> None:
    chain, issuer = issue(tmp_path, names, days=days)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-s")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer))
    with tls_server(chain) as port:
        store = open_store(f"s3://bucket/p?endpoint=https://127.0.0.1:{port}&region=us-east-1")
        with pytest.raises(StoreError, match=says) as caught:
            store.get("config")
    assert "canary" not in str(caught.value)


def test_tls_where_there_is_none_and_none_where_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    chain, _ = issue(tmp_path)
    for scheme, server, says in (
        ("https", None, "endpoint=http://HOST"),
        ("http", chain, "endpoint=https://"),
    ):
        with tls_server(server) as port:
            store = open_store(f"s3://bucket/p?endpoint={scheme}://127.0.0.1:{port}&region=us-east-1")
            with pytest.raises(StoreError, match=says):
                store.get("config")
