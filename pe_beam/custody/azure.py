"""Azure Key Vault, by azure-keyvault-secrets. Credentials are those that DefaultAzureCredential finds."""

from __future__ import annotations

import contextlib
import re
import time
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, field_validator

from pe_beam.contracts.options import Options
from pe_beam.custody.asking import ANSWER, CONNECT, GONE, ServiceCustody, Trouble, checked_endpoint
from pe_beam.errors import MissingExtraError, SecretError

_TAG = "pe-beam-run"
_HEX = re.compile(r"[0-9a-f]{64}")
SETTLED = 30.0
"""Seconds after which a deletion that was asked for earlier is shown."""


class AzureOptions(Options):
    """The keys of `privacy.secret` for Azure Key Vault."""

    vault: str = Field(description="its URL, such as https://NAME.vault.azure.net")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,89}$",
        description="of the secret; null: pe-beam- and a random mark of the run directory",
    )

    @field_validator("vault")
    @classmethod
    def _vault(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise ValueError("https:// is wanted, such as https://NAME.vault.azure.net")
        return checked_endpoint(url) or ""


class AzureKeyVault(ServiceCustody):
    """Keeps the secret in Azure Key Vault, as hexadecimal text. It is deleted and purged there.

    A vault with purge protection is refused. The vault has no conditional write: each write is a version of its own,
    and the run directory pins one.
    """

    Options = AzureOptions

    def __init__(self, options: BaseModel, mark: str) -> None:
        """See Custody."""
        super().__init__(options, mark)
        try:
            import azure.identity
            import azure.keyvault.secrets  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "privacy.secret.custody: azure-key-vault needs the packages azure-keyvault-secrets and azure-identity; "
                "install pe_beam[azure]"
            ) from None

    def create(self, secret: bytes) -> str:
        """See Custody. Before and after the write all versions have to carry the mark: nothing of others is covered."""
        self.check()
        made = self.asked(
            "creating the secret",
            lambda: self._client.set_secret(
                self.name, bytes(secret).hex(), tags={_TAG: self.mark}, content_type="32 bytes, hexadecimal"
            ),
        )
        self.check()
        return str(made.properties.version)

    def read(self, version: str) -> bytes | None:
        """See Custody."""
        found = self.asked("reading the secret", lambda: self._value(version))
        return None if found is None else bytes.fromhex(found) if _HEX.fullmatch(found) else b""

    def _value(self, version: str) -> str | None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return str(self._client.get_secret(self.name, version).value)
        except ResourceNotFoundError:
            return None

    def check(self) -> None:
        """See Custody. What the vault does with deleted secrets, each of its secrets says (recoveryLevel)."""
        for found in self._versions():
            self.bound((found.tags or {}).get(_TAG))
            if "Purgeable" not in (found.recovery_level or ""):
                raise SecretError(
                    f"{self.place()}: the vault has purge protection: it keeps deleted secrets, and a secret that is "
                    "destroyed must be gone; a vault without purge protection is wanted"
                )

    def destroy(self) -> None:
        """See Custody. A deletion and a purge go on for a while after their answers.

        In between the service shows neither a secret nor a deleted one. So a secret that this call deletes is waited
        for until it is shown as deleted; where there is none, a driver that was killed may have just deleted it.
        """
        versions = self._versions()
        for found in versions:
            self.bound((found.tags or {}).get(_TAG))
        if versions:
            self.asked("destroying the secret", self._delete)
        recoverable = not versions or any("Recoverable" in (found.recovery_level or "") for found in versions)
        patience = GONE if versions else 0.0 if self.rehearsing else SETTLED
        if recoverable and self._shown_as_deleted(patience):
            self.asked("purging the deleted secret", self._purge)
        self.wait_until_gone(lambda: not self._list() and self._deleted() is None)

    def _delete(self) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with contextlib.suppress(ResourceNotFoundError):
            self._client.begin_delete_secret(self.name)

    def _shown_as_deleted(self, patience: float) -> bool:
        """Waits until the service shows a deleted secret of this name, which has to be ours; returns whether it did."""
        end, pause = time.monotonic() + patience, 0.1
        while (found := self.asked("looking for the deleted secret", self._deleted)) is None:
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
        self.bound((found.properties.tags or {}).get(_TAG))
        return True

    def _deleted(self) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self._client.get_deleted_secret(self.name)
        except ResourceNotFoundError:
            return None

    def _purge(self) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        with contextlib.suppress(ResourceNotFoundError):
            self._client.purge_deleted_secret(self.name)

    def place(self) -> str:
        """See Custody."""
        return f"privacy.secret: {self.name} in Azure Key Vault {self.options.vault}"

    def trouble(self, error: Exception) -> Trouble | None:
        """See ServiceCustody."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        if isinstance(error, ValueError) and "challenge" in str(error).lower():
            return Trouble("what answers there is no vault of that address; correct privacy.secret.vault", setup=True)
        if isinstance(error, ClientAuthenticationError):
            return Trouble(
                "there are no valid credentials; set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or give "
                "the machine an identity",
                setup=True,
            )
        if isinstance(error, HttpResponseError) and error.status_code:
            return _answered(error)
        if isinstance(error, AzureError):
            return Trouble(
                "the service does not answer; check the network and privacy.secret.vault", passing=True, setup=True
            )
        return None

    def _versions(self) -> list[Any]:
        return self.asked("reading what is said of the secret", self._list)

    def _list(self) -> list[Any]:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return list(self._client.list_properties_of_secret_versions(self.name))
        except ResourceNotFoundError:
            return []

    @cached_property
    def _client(self) -> Any:
        """Made at the first request."""
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.secrets import SecretClient

        bounds: dict[str, Any] = {"connection_timeout": CONNECT, "read_timeout": ANSWER, "retry_total": 0}
        return SecretClient(vault_url=self.options.vault, credential=DefaultAzureCredential(**bounds), **bounds)


def _answered(error: Any) -> Trouble:
    status, said = error.status_code, str(getattr(error.error, "code", "") or "") + str(error.message or "")
    if status == 409 and ("ObjectIsDeletedButRecoverable" in said or "deleted but recoverable" in said):
        return Trouble(
            "a secret of this name is there that is deleted and not purged; purge it, or take another "
            "privacy.secret.name",
            setup=True,
        )
    if status in (401, 403):
        return Trouble(
            "access is denied; whom the credentials name has to set, get, list, delete and purge secrets (Key Vault "
            "Secrets Officer), a worker to get them (Key Vault Secrets User)",
            setup=True,
        )
    passing = status in (408, 409, 429) or status >= 500
    return Trouble(f"the service answered with status {status}", passing=passing, setup=not passing)
