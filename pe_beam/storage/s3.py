"""Amazon S3 and what speaks like it: `s3://bucket/prefix`, by obstore. A version is an object's entity tag.

The environment says who and where: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, a web identity, the
role of a container or machine; AWS_REGION; AWS_ENDPOINT_URL. Profiles of ~/.aws are not read.
"""

from __future__ import annotations

from pe_beam.storage.bucket import Bucket
from pe_beam.storage.by_obstore import ObstoreBucket, clients, demand_obstore
from pe_beam.storage.objects import ObjectStore


class S3Store(ObjectStore):
    """Files below a prefix of a bucket of S3."""

    scheme = "s3"
    environment = ("AWS_",)

    @classmethod
    def connect(cls, bucket: str) -> Bucket:
        """A client of a bucket."""
        demand_obstore("s3", "s3")
        from obstore.store import S3Store as Client

        wanted = "set AWS_REGION, or AWS_ENDPOINT_URL to a URL"
        return _S3Bucket(*clients(Client, bucket, endpoint="AWS_ENDPOINT_URL", wanted=wanted))


class _S3Bucket(ObstoreBucket):
    denied = "whom AWS_ACCESS_KEY_ID or the role names needs s3:GetObject, PutObject, DeleteObject and ListBucket there"
    unreachable = "check the network, AWS_REGION, and AWS_ENDPOINT_URL if it is set"

    def keeps_deleted(self, probe: str) -> str | None:
        """A bucket that keeps versions says so by the version that it gives a write, and the marker for a deletion.

        Locks, retention and replication want versions: without them a deleted object is gone.
        """
        version, told = self.probed(probe)
        is_kept = version is not None or "x-amz-version-id" in told or "x-amz-delete-marker" in told
        return "versioning is on" if is_kept else None
