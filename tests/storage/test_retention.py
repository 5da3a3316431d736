"""A store that keeps what was deleted says so, and no run lays its secret there."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from pe_beam.contracts.store import Store
from pe_beam.storage import open_store
from pe_beam.storage.bucket import NO_BUCKET
from tests.storage.servers import ACCOUNT, Server, ask, ask_az, ask_s3, make_bucket

_SOFT = b"""<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties><DeleteRetentionPolicy><Enabled>%s</Enabled>
<Days>7</Days></DeleteRetentionPolicy></StorageServiceProperties>"""
_NEXT = itertools.count()
_PROPERTIES = {"comp": "properties", "restype": "service"}
_VERSIONS = b"""<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>
</VersioningConfiguration>"""


@contextlib.contextmanager
def keeping(server: Server) -> Iterator[str]:
    """A bucket that keeps what was deleted."""
    name = f"kept-{next(_NEXT)}"
    if server.kind == "gs":
        body = f'{{"name": "{name}", "versioning": {{"enabled": true}}}}'.encode()
        url = f"http://127.0.0.1:{server.port}/storage/v1/b?project=test"
        ask("POST", url, body, {"Content-Type": "application/json"})
        yield f"gs://{name}"
        return
    make_bucket(server, name)
    if server.kind == "s3":
        ask_s3(server, "PUT", f"/{name}", "versioning=", _VERSIONS)
        yield f"s3://{name}"
        return
    try:
        ask_az(server, "PUT", f"/{ACCOUNT}/", _PROPERTIES, _SOFT % b"true")
        yield f"az://{name}"
    finally:
        ask_az(server, "PUT", f"/{ACCOUNT}/", _PROPERTIES, _SOFT % b"false")


def test_a_store_says_whether_deleted_is_gone(server: Server, store: Store) -> None:
    assert store.keeps_deleted() is None
    assert store.list_files() == []
    with keeping(server) as bucket:
        found = open_store(f"{bucket}/run").keeps_deleted()
    assert found == ("soft delete is on" if server.kind == "az" else "versioning is on")
    missing = open_store(f"{server.kind}://no-such-bucket/run").keeps_deleted()
    assert missing == f"what it keeps of deleted files cannot be read ({NO_BUCKET})"
