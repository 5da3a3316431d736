"""A store that keeps what was deleted says so, and no run lays its secret there."""

from __future__ import annotations

from pe_beam.contracts.store import Store
from pe_beam.storage import open_store
from tests.storage.servers import ACCOUNT, Server, ask, ask_az, ask_s3, make_bucket

_SOFT = b"""<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties><DeleteRetentionPolicy><Enabled>%s</Enabled>
<Days>7</Days></DeleteRetentionPolicy></StorageServiceProperties>"""
_VERSIONS = b"""<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>
</VersioningConfiguration>"""


def _keep(server: Server) -> str:
    """A bucket that keeps what was deleted."""
    if server.kind == "gs":
        body = b'{"name": "kept", "versioning": {"enabled": true}}'
        url = f"http://127.0.0.1:{server.port}/storage/v1/b?project=test"
        ask("POST", url, body, {"Content-Type": "application/json"})
    elif server.kind == "s3":
        make_bucket(server, "kept")
        ask_s3(server, "PUT", "/kept", "versioning=", _VERSIONS)
    else:
        make_bucket(server, "kept")
        ask_az(server, "PUT", f"/{ACCOUNT}/", {"comp": "properties", "restype": "service"}, _SOFT % b"true")
    return f"{server.kind}://kept/run"


def test_a_store_says_whether_deleted_is_gone(server: Server, store: Store) -> None:
    assert store.keeps_deleted() is None
    assert store.list_files() == []
    try:
        found = open_store(_keep(server)).keeps_deleted()
        assert found == ("soft delete is on" if server.kind == "az" else "versioning is on")
    finally:
        if server.kind == "az":
            ask_az(server, "PUT", f"/{ACCOUNT}/", {"comp": "properties", "restype": "service"}, _SOFT % b"false")
    missing = open_store(f"{server.kind}://no-such-bucket/run").keeps_deleted()
    assert missing is not None
    assert "cannot be read" in missing
    assert "no such bucket" in missing
