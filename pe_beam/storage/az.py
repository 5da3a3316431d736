"""Azure Blob Storage: `az://container/prefix`, by obstore. A version is an object's entity tag.

The environment says who and where: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or a SAS token, a service
principal, a workload or managed identity; AZURE_STORAGE_ENDPOINT.
"""

from __future__ import annotations

import os

from pe_beam.storage.by_obstore import ObstoreBucket, demand_obstore, options
from pe_beam.storage.objects import Bucket, ObjectStore


class AzStore(ObjectStore):
    """Files below a prefix of a container of Azure Blob Storage."""

    scheme = "az"
    environment = ("AZURE_", "AZURITE_")

    @classmethod
    def connect(cls, bucket: str) -> Bucket:
        """A client of a container."""
        demand_obstore("az", "azure")
        from obstore.store import AzureStore as Client

        http = os.environ.get("AZURE_STORAGE_ENDPOINT", "").startswith("http://")
        near, far = (Client(bucket, **options(large=large, http=http)) for large in (False, True))
        return _AzBucket(near, far)


class _AzBucket(ObstoreBucket):
    denied = "whom the credentials name needs the role Storage Blob Data Contributor there"
    unreachable = "check the network, AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ENDPOINT if it is set"

    def keeps_deleted(self, probe: str) -> str | None:
        raise NotImplementedError
