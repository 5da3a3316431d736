"""AWS Secrets Manager, by boto3. Credentials are those of the environment, as boto3 finds them."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, field_validator

from pe_beam.contracts.options import Options
from pe_beam.custody.asking import ANSWER, CONNECT, ServiceCustody, Trouble, checked_endpoint
from pe_beam.errors import MissingExtraError, SecretError

_TAG = "pe-beam-run"
_CREDENTIALS = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "InvalidSignatureException",
)
_SCHEDULED = (
    "a secret of this name is there that is deleted with a recovery window; restore it and delete it with "
    "--force-delete-without-recovery, or take another privacy.secret.name"
)


class AwsOptions(Options):
    """The keys of `privacy.secret` for AWS Secrets Manager."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$", description="such as eu-central-1")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9/_+=.@-]{1,400}$",
        description="of the secret; null: pe-beam- and a random mark of the run directory",
    )
    endpoint: str | None = Field(None, description="another address of the service, https://HOST; null: Amazon's own")

    _endpoint = field_validator("endpoint")(checked_endpoint)


class AwsSecretsManager(ServiceCustody):
    """Keeps the secret in AWS Secrets Manager. It is deleted there without recovery.

    Creating is one request that keeps the value too; the version's id follows from the mark. A secret that is
    replicated to other regions, or rotated, is refused.
    """

    Options = AwsOptions

    def __init__(self, options: BaseModel, mark: str) -> None:
        """See Custody."""
        super().__init__(options, mark)
        try:
            import boto3  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "privacy.secret.custody: aws-secrets-manager needs the package boto3; install pe_beam[aws]"
            ) from None

    def create(self, secret: bytes) -> str:
        """See Custody."""
        self.asked("creating the secret", lambda: self._make(secret))
        self.check()
        return self._version

    def _make(self, secret: bytes) -> None:
        """Makes the secret. One that is there stays; its mark is looked at afterwards."""
        with contextlib.suppress(self._client.exceptions.ResourceExistsException):
            self._client.create_secret(
                Name=self.name,
                ClientRequestToken=self._version,
                SecretBinary=bytes(secret),
                Tags=[{"Key": _TAG, "Value": self.mark}],
            )

    def read(self, version: str) -> bytes | None:
        """See Custody."""
        return self.asked("reading the secret", lambda: self._value(version))

    def _value(self, version: str) -> bytes | None:
        try:
            found: bytes = self._client.get_secret_value(SecretId=self.name, VersionId=version).get("SecretBinary", b"")
        except self._client.exceptions.ResourceNotFoundException:
            return None
        except self._client.exceptions.InvalidRequestException:
            return None  # it is scheduled for deletion
        return found

    def check(self) -> None:
        """See Custody."""
        found = self._found()
        if found is None:
            return
        self._own(found)
        if found.get("DeletedDate"):
            raise SecretError(f"{self.place()}: {_SCHEDULED}")
        self._refuse_copies(found)
        if found.get("RotationEnabled"):
            raise SecretError(f"{self.place()}: it is rotated, and a run needs one value; turn its rotation off")

    def _refuse_copies(self, found: Any) -> None:
        if found.get("ReplicationStatus") or found.get("PrimaryRegion", self.options.region) != self.options.region:
            raise SecretError(
                f"{self.place()}: it is replicated to other regions, which keep their copies; one without replicas is "
                "wanted"
            )

    def destroy(self) -> None:
        """See Custody. A forced deletion ends soon after its answer; until then the secret is still described."""
        found = self._found()
        if found is None:
            return
        self._own(found)
        self._refuse_copies(found)
        self.asked("destroying the secret", lambda: self._delete(found["ARN"]))
        self.wait_until_gone(lambda: self._there() is None)

    def _delete(self, arn: str) -> None:
        with contextlib.suppress(self._client.exceptions.ResourceNotFoundException):
            self._client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)

    def place(self) -> str:
        """See Custody."""
        return f"privacy.secret: {self.name} in AWS Secrets Manager, region {self.options.region}"

    def trouble(self, error: Exception) -> Trouble | None:
        """See ServiceCustody."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return Trouble(f"there are no credentials; {_SET}", setup=True)
        if isinstance(error, ClientError):
            return _answered(error.response)
        if isinstance(error, BotoCoreError):
            return Trouble(
                "the service does not answer; check the network, privacy.secret.region and privacy.secret.endpoint",
                passing=True,
                setup=True,
            )
        return None

    def _found(self) -> Any:
        return self.asked("reading what is said of the secret", self._there)

    def _there(self) -> Any:
        try:
            return self._client.describe_secret(SecretId=self.name)
        except self._client.exceptions.ResourceNotFoundException:
            return None

    def _own(self, found: Any) -> None:
        self.bound({tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}.get(_TAG))

    @property
    def _version(self) -> str:
        """The id of the one version: 32 hexadecimal digits of the mark, in the form of a UUID."""
        return "-".join(self.mark[start:stop] for start, stop in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))

    @cached_property
    def _client(self) -> Any:
        """Made at the first request: credentials may be missing, and that has to be said as other faults are."""
        import boto3
        from botocore.config import Config

        bounds = Config(connect_timeout=CONNECT, read_timeout=ANSWER, retries={"total_max_attempts": 1})
        return boto3.session.Session().client(
            "secretsmanager", region_name=self.options.region, endpoint_url=self.options.endpoint, config=bounds
        )


_SET = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"


def _answered(response: Any) -> Trouble:
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "AccessDeniedException":
        return Trouble(
            "access is denied; whom the credentials name has to create, read and delete secrets whose names begin so "
            "(secretsmanager:CreateSecret, TagResource, DescribeSecret, GetSecretValue, DeleteSecret), a worker to "
            "read them",
            setup=True,
        )
    if code in _CREDENTIALS or status in (401, 403):
        return Trouble(
            f"the credentials are not accepted; {_SET}, and privacy.secret.region to that of the endpoint", setup=True
        )
    if code == "InvalidRequestException" and "scheduled for deletion" in response["Error"].get("Message", ""):
        return Trouble(_SCHEDULED, setup=True)
    passing = status in (408, 429) or status >= 500 or code in ("ThrottlingException", "InternalServiceError")
    return Trouble(f"the service answered {code or f'with status {status}'}", passing=passing, setup=not passing)
