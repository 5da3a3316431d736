"""Services that are denied, absent, slow or wrong, and those that would keep what is destroyed."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pe_beam.custody import asking, aws, azure, google, keeping
from pe_beam.errors import MissingExtraError, PeBeamError, RecipeError, SecretError, ServiceError
from pe_beam.privacy.secret_record import read_record
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import open_store
from tests.custody.conftest import Place
from tests.custody.servers import Kept

SERVICES = ["google-secret-manager", "aws-secrets-manager", "azure-key-vault"]
OPERATIONS = {
    "google-secret-manager": ("create", "get", "addVersion", "access", "delete"),
    "aws-secrets-manager": ("CreateSecret", "DescribeSecret", "GetSecretValue", "DeleteSecret"),
    "azure-key-vault": ("set", "get", "versions", "delete", "getDeleted", "purge"),
}
MARK = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience is short."""
    for module, name, seconds in (
        (asking, "PATIENCE", 0.5),
        (asking, "GONE", 1.0),
        (azure, "GONE", 1.0),
        (azure, "SETTLED", 0.3),
    ):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is waited for less than half a second. On a busy machine, that may be too short for one that comes."""
    for module in (aws, azure):
        monkeypatch.setattr(module, "ANSWER", 0.4)
    monkeypatch.setitem(google._BOUNDS, "timeout", 0.4)


def refusal(place: Place, folder: Path, **options: Any) -> str:
    """The one sentence with which a run directory is refused; nothing but a rehearsal has been made."""
    store = open_store(folder / "run")
    keeping._opened.cache_clear()
    with pytest.raises(PeBeamError) as caught:
        keeping.ensure_secret(store, place.kind, place.options | options)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("privacy.secret")
    assert read_record(store).pinned is None
    if place.service is not None:
        assert all("-probe-" in name for name in place.service.secrets)
        assert not [value for value in place.values() if value.hex() in said]
    assert isinstance(caught.value, SecretError | ServiceError | MissingExtraError)
    return said


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_each_right_that_is_missing_is_said_before_a_secret_is_made(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    for operation in OPERATIONS[place.kind]:
        place.service.denied = {operation}
        assert "failed: access is denied; whom the credentials name has to" in refusal(place, tmp_path / operation)
        assert place.service.asked[operation]
        place.service.secrets.clear()


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_a_service_that_fails_for_a_moment_or_loses_answers_makes_no_second_secret(
    place, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 5.0)
    for number, faults in enumerate((place.service.failing, place.service.lost)):
        for operation in OPERATIONS[place.kind]:
            keeping._opened.cache_clear()
            faults[operation] = 1
            store = open_store(tmp_path / f"{number}-{operation}")
            held, _ = keeping.ensure_secret(store, place.kind, place.options)
            assert keeping.read_secret(store) == held
            keeping.forget_secret(store)
            assert faults[operation] == 0
            assert place.values() == []


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_a_service_that_fails_for_long_is_a_fault_that_passes(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    for operation in OPERATIONS[place.kind]:
        place.service.failing[operation] = 1000
    store = open_store(tmp_path / "run")
    with pytest.raises(ServiceError, match="failed: the service answered"):
        keeping.ensure_secret(store, place.kind, place.options)


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_one_that_does_not_answer_is_said_soon(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    place.service.slow = 3.0
    began = time.monotonic()
    assert "the service does not answer; check the network" in refusal(place, tmp_path / "slow")
    key = "vault" if place.kind == "azure-key-vault" else "endpoint"
    nobody = f"{'https' if key == 'vault' else 'http'}://127.0.0.1:9"
    assert "the service does not answer; check the network" in refusal(place, tmp_path / "absent", **{key: nobody})
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_without_credentials_or_in_the_wrong_place(place: Place, tmp_path: Path, monkeypatch) -> None:
    assert place.service is not None
    if place.kind == "google-secret-manager":
        assert "no such project or location" in refusal(place, tmp_path / "a", project="another-project")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
        wanted = "there are no valid credentials; set GOOGLE_APPLICATION_CREDENTIALS"
    elif place.kind == "aws-secrets-manager":
        assert "privacy.secret.region to that of the endpoint" in refusal(place, tmp_path / "a", region="eu-west-1")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("HOME", str(tmp_path))
        wanted = "there are no credentials; set AWS_ACCESS_KEY_ID"
    else:
        place.service.settings["resource"] = "https://vault.invalid"
        assert "what answers there is no vault of that address" in refusal(place, tmp_path / "a")
        place.service.settings |= {"resource": None, "no_token": True}
        wanted = "there are no valid credentials; set AZURE_TENANT_ID"
    assert wanted in refusal(place, tmp_path / "b")


@pytest.mark.parametrize(
    ("place", "settings", "wanted"),
    [
        ("google-secret-manager", {"version_destroy_ttl": "86400s"}, "destroyed with a delay"),
        ("aws-secrets-manager", {"about": {"ReplicationStatus": [{"Region": "eu-west-1"}]}}, "replicated to other"),
        ("aws-secrets-manager", {"about": {"PrimaryRegion": "eu-west-1"}}, "replicated to other"),
        ("aws-secrets-manager", {"about": {"RotationEnabled": True}}, "turn its rotation off"),
        ("azure-key-vault", {"recovery_level": "Recoverable"}, "has purge protection"),
        ("azure-key-vault", {"recovery_level": "CustomizedRecoverable+ProtectedSubscription"}, "has purge protection"),
    ],
    indirect=["place"],
)
def test_delayed_destruction_and_copies_are_refused(place: Place, tmp_path: Path, settings, wanted: str) -> None:
    assert place.service is not None
    place.service.settings |= settings
    assert wanted in refusal(place, tmp_path)


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_and_when_they_come_later_too(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    store = open_store(tmp_path / "run")
    keeping.ensure_secret(store, place.kind, place.options)
    (kept,) = place.service.secrets.values()
    if place.kind == "google-secret-manager":
        kept.about["versionDestroyTtl"] = "86400s"
    elif place.kind == "aws-secrets-manager":
        kept.about["ReplicationStatus"] = [{"Region": "eu-west-1"}]
    else:
        place.service.settings["recovery_level"] = "Recoverable"
    with pytest.raises(SecretError, match="is wanted"):
        keeping.ensure_secret(store, place.kind, place.options)


@pytest.mark.parametrize("place", SERVICES, indirect=True)
def test_a_secret_that_stays_is_said_and_the_next_start_goes_on(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    store = open_store(tmp_path / "run")
    keeping.ensure_secret(store, place.kind, place.options)
    place.service.settings["stays"] = True
    with pytest.raises(SecretError, match="the secret is still there"):
        keeping.forget_secret(store)
    record = read_record(store)
    assert (record.deleted, record.destroyed) == (True, False)
    place.service.settings["stays"] = False
    keeping.forget_secret(store)
    assert read_record(store).destroyed
    assert place.values() == []


@pytest.mark.parametrize("place", ["aws-secrets-manager"], indirect=True)
def test_a_forced_deletion_is_waited_for(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    place.service.settings["looks_until_gone"] = 2
    store = open_store(tmp_path / "run")
    keeping.ensure_secret(store, place.kind, place.options)
    keeping.forget_secret(store)
    assert place.values() == []


@pytest.mark.parametrize("place", ["aws-secrets-manager", "azure-key-vault"], indirect=True)
def test_a_name_that_is_deleted_and_recoverable_is_refused(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    about: dict[str, Any] = {"Tags": [], "tags": {"v": {}}, "looks": 0}
    place.service.deleted["taken"] = Kept(about, {"v": b"o" * 32})
    assert "a secret of this name is there that is deleted" in refusal(place, tmp_path, name="taken")
    assert place.service.deleted["taken"].versions == {"v": b"o" * 32}


@pytest.mark.parametrize("place", ["google-secret-manager"], indirect=True)
def test_a_version_that_is_destroyed_is_no_secret(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    store = open_store(tmp_path / "run")
    keeping.ensure_secret(store, place.kind, place.options)
    place.service.settings["destroyed"] = (read_record(store).pinned,)
    with pytest.raises(SecretError, match="deleted meanwhile"):
        keeping.read_secret(store)


@pytest.mark.parametrize("place", ["google-secret-manager"], indirect=True)
def test_a_regional_secret_lies_in_its_location(place: Place, tmp_path: Path) -> None:
    assert place.service is not None
    place.service.settings["parent"] = "projects/secret-project/locations/europe-west3"
    store = open_store(tmp_path / "run")
    held, _ = keeping.ensure_secret(store, place.kind, place.options | {"location": "europe-west3"})
    assert keeping.read_secret(store) == held
    assert b"replication" not in b"".join(place.service.bodies)


@pytest.mark.parametrize("place", ["driver-file"], indirect=True)
def test_a_folder_that_cannot_be_written_is_said(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "on the driver's disk" in refusal(place, tmp_path, path=str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"custody": "gcp"}, r"privacy\.secret\.custody: 'gcp' is not known"),
        ({"project": "p"}, r"privacy\.secret\.custody: .*required"),
        ({"custody": "google-secret-manager"}, r"privacy\.secret\.project: .*required"),
        (
            {"custody": "google-secret-manager", "project": "some-project", "projekt": "x"},
            r"privacy\.secret\.projekt: unknown key",
        ),
        ({"custody": "google-secret-manager", "project": "P/x"}, r"privacy\.secret\.project: 'P/x'"),
        (
            {"custody": "google-secret-manager", "project": "some-project", "endpoint": "http://elsewhere"},
            r"privacy\.secret\.endpoint: 'http://elsewhere' https:// is wanted",
        ),
        ({"custody": "aws-secrets-manager", "region": "Frankfurt"}, r"privacy\.secret\.region: 'Frankfurt'"),
        ({"custody": "azure-key-vault", "vault": "http://127.0.0.1"}, r"privacy\.secret\.vault: .*https:// is wanted"),
        ({"custody": "azure-key-vault", "vault": "https://v.example", "name": "a_b"}, r"privacy\.secret\.name: 'a_b'"),
        ({"custody": "driver-file", "path": "secrets"}, r"privacy\.secret\.path: 'secrets' an absolute path"),
        ("google-secret-manager", r"privacy\.secret: "),
    ],
)
def test_a_wrong_recipe_names_its_key(small, given, wanted) -> None:
    small["privacy"]["secret"] = given
    with pytest.raises(RecipeError, match=wanted) as caught:
        parse_recipe(small)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        ("google-secret-manager", "google.cloud.secretmanager", "gcp"),
        ("aws-secrets-manager", "boto3", "aws"),
        ("azure-key-vault", "azure.identity", "azure"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(kind, module, extra, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if kind == "google-secret-manager":
        monkeypatch.delattr("google.cloud.secretmanager", raising=False)
    cls = keeping.find_custody(kind)
    with pytest.raises(
        MissingExtraError, match=rf"privacy\.secret\.custody: {kind} needs .*install pe_beam\[{extra}\]"
    ):
        cls(cls.Options.model_construct(), MARK)
