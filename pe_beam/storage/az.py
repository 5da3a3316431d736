"""Azure Blob Storage: `az://container/prefix`, by obstore. A version is an object's entity tag.

The environment says who and where: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or a SAS token, a service
principal, a workload or managed identity; AZURE_STORAGE_ENDPOINT.
"""

from __future__ import annotations

import hmac
import os
import urllib.request
from base64 import b64decode, b64encode
from email.utils import formatdate
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from pe_beam.storage.bucket import ANSWER, Bucket
from pe_beam.storage.by_obstore import ObstoreBucket, clients, demand_obstore
from pe_beam.storage.objects import ObjectStore


class AzStore(ObjectStore):
    """Files below a prefix of a container of Azure Blob Storage."""

    scheme = "az"
    environment = ("AZURE_", "AZURITE_")

    @classmethod
    def connect(cls, bucket: str) -> Bucket:
        """A client of a container."""
        demand_obstore("az", "azure")
        from obstore.store import AzureStore as Client

        wanted = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY to the account's key if it is used"
        return _AzBucket(*clients(Client, bucket, endpoint="AZURE_STORAGE_ENDPOINT", wanted=wanted))


class _AzBucket(ObstoreBucket):
    denied = "whom the credentials name needs the role Storage Blob Data Contributor there"
    unreachable = "check the network, AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ENDPOINT if it is set"

    def keeps_deleted(self, probe: str) -> str | None:
        """The service says of a write which version it made, and of a deletion whether it is for good.

        With the account's key its properties are read too: an emulator says of any deletion that it is for good.
        """
        try:
            # At the top of the container: obstore signs no URL right whose path has characters to be escaped.
            version, told = self.probed(probe.rpartition("/")[2])
        except HTTPError as error:
            if error.code == 409:
                return "a retention policy or a hold is set"
            raise
        if version is not None or "x-ms-version-id" in told:
            return "versioning is on"
        if told.get("x-ms-delete-type-permanent") != "true":
            return "soft delete is on"
        return "soft delete is on" if self._key and b"<Enabled>true</Enabled>" in self._retention() else None

    def _retention(self) -> bytes:
        """What the service's properties say of deleted blobs, as XML."""
        account, query = os.environ["AZURE_STORAGE_ACCOUNT_NAME"], {"comp": "properties", "restype": "service"}
        top = os.environ.get("AZURE_STORAGE_ENDPOINT", f"https://{account}.blob.core.windows.net").rstrip("/")
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        # Shared Key: the method, eleven empty headers, those of Azure's own, and the resource.
        asked = "GET" + "\n" * 12 + "".join(f"{name}:{text}\n" for name, text in headers.items())
        asked += f"/{account}{urlsplit(top).path}/" + "".join(f"\n{name}:{text}" for name, text in query.items())
        proof = b64encode(hmac.digest(b64decode(self._key), asked.encode(), "sha256")).decode()
        url = f"{top}/?{urlencode(query)}"
        request = urllib.request.Request(url, headers={**headers, "Authorization": f"SharedKey {account}:{proof}"})
        with urllib.request.urlopen(request, timeout=ANSWER) as answer:
            text: bytes = answer.read()
        _, _, policy = text.partition(b"<DeleteRetentionPolicy>")
        return policy.partition(b"</DeleteRetentionPolicy>")[0]

    @property
    def _key(self) -> str:
        return os.environ.get("AZURE_STORAGE_ACCOUNT_KEY", "")
