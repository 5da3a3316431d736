"""Terraform: it parses, buckets keep nothing, and roles hold what a run was seen to ask for, and no more."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

import pytest

from tests.launch.conftest import RUNS, STAGING, Launched
from tests.launch.permissions import DATAFLOW, DATAFLOW_WORKER, bucket_of, needed
from tests.whole_runs import ROOT

hcl2 = pytest.importorskip("hcl2", reason="Terraform was NOT parsed: no python-hcl2")
pytestmark = pytest.mark.xdist_group("launch")
FILES = sorted((ROOT / "templates/dataflow/terraform").glob("*.tf"))


def plain(value: Any) -> Any:
    """A parsed value without quotes and marks of the parser."""
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


def blocks(kind: str) -> list[dict[str, Any]]:
    return [block for file in FILES for block in plain(hcl2.loads(file.read_text())).get(kind, [])]


RESOURCES: dict[tuple[str, str], dict[str, Any]] = {
    (kind, name): body for block in blocks("resource") for kind, named in block.items() for name, body in named.items()
}
ROLES = {
    name: set(body["permissions"])
    for (kind, name), body in RESOURCES.items()
    if kind == "google_project_iam_custom_role"
}


def granted(kind: str, name: str) -> set[str]:
    """Permissions of the role that a resource gives."""
    role = RESOURCES[kind, name]["role"]
    found = re.fullmatch(r"\$\{google_project_iam_custom_role\.(\w+)(\[0\])?\.name\}", role)
    assert found, f"{name}: {role}"
    return ROLES[found.group(1)]


def asked(launched: Launched, bucket: str) -> set[str]:
    return set().union(*(needed(each) for each in launched.requests if bucket_of(each) == bucket))


def test_roles_on_the_bucket_of_runs_are_what_launchers_and_workers_asked_for(launched: Launched) -> None:
    """Equal: what is asked for is granted, and nothing else is."""
    assert len(launched.requests) > 100
    assert granted("google_storage_bucket_iam_member", "runs") == asked(launched, RUNS)


def test_roles_on_the_bucket_of_staged_files_too(launched: Launched) -> None:
    assert granted("google_storage_bucket_iam_member", "staging") == asked(launched, STAGING)
    assert {bucket_of(each) for each in launched.requests} == {RUNS, STAGING}


def test_the_table_knows_each_method_or_says_so() -> None:
    assert needed("POST /upload/storage/v1/b/x/o?ifGenerationMatch=7&uploadType=multipart") == {
        "storage.objects.create",
        "storage.objects.delete",
    }
    with pytest.raises(ValueError, match="what does it need"):
        needed("POST /storage/v1/b/x/o/a/rewriteTo/b/y/o/c")


def test_workers_have_what_dataflow_wants_of_them_but_no_right_to_all_buckets() -> None:
    assert granted("google_project_iam_member", "worker") == {
        each for each in DATAFLOW_WORKER if not each.startswith("storage.")
    }


def test_drivers_have_what_beams_client_asks_for() -> None:
    """The methods are read off Beam's own code; a new one has to be looked up."""
    apiclient = pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient")
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(inspect.getsource(apiclient)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if re.fullmatch(r"self\._(jobs|messages|metrics)_client", ast.unparse(node.func.value))
    }
    assert calls == set(DATAFLOW)
    assert granted("google_project_iam_member", "driver") == set(DATAFLOW.values())


def test_launchers_launch_look_and_read_specs() -> None:
    """FlexTemplates.launch needs the right to create a job; jobs.get that to get one."""
    assert granted("google_project_iam_member", "launcher") == {"dataflow.jobs.create", "dataflow.jobs.get"}
    specs = RESOURCES["google_storage_bucket_iam_member", "specs"]
    assert granted("google_storage_bucket_iam_member", "specs") == {"storage.objects.get"}
    assert "/objects/specs/" in specs["condition"][0]["expression"]
    definition = (ROOT / "templates/dataflow/workflow.yaml").read_text()
    assert set(re.findall(r"call: googleapis\.dataflow\.v1b3\.projects\.locations\.(\S+)", definition)) == {
        "flexTemplates.launch",
        "jobs.get",
    }


@pytest.mark.parametrize("name", ["runs", "staging"])
def test_buckets_keep_nothing_and_are_not_public(name: str) -> None:
    bucket = RESOURCES["google_storage_bucket", name]
    assert bucket["soft_delete_policy"] == [{"retention_duration_seconds": 0}]
    assert bucket["versioning"] == [{"enabled": False}]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert not {"retention_policy", "autoclass", "enable_object_retention"} & set(bucket)
    rules = [(each["action"][0]["type"], each["condition"][0]) for each in bucket["lifecycle_rule"]]
    if name == "runs":
        assert rules == [("AbortIncompleteMultipartUpload", {"age": 1})], "nothing of a run may be deleted"
    else:
        assert rules == [("Delete", {"age": 30, "matches_prefix": ["staging/", "temp/"]})], "specs and recipes stay"


def test_no_role_is_wider_than_its_resource() -> None:
    """No basic role, no predefined one that reaches storage, and no right to change what a bucket keeps."""
    given = [body["role"] for (kind, _), body in RESOURCES.items() if kind.endswith("_iam_member")]
    predefined = {role for role in given if role.startswith("roles/")}
    assert predefined == {
        "roles/iam.serviceAccountUser",
        "roles/artifactregistry.reader",
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
    }
    every = set().union(*ROLES.values())
    assert not {each for each in every if re.search(r"setIamPolicy|buckets\.update|actAs", each)}
    for (kind, name), body in RESOURCES.items():
        if kind == "google_project_iam_member":
            rights = granted(kind, name)
            assert not any(right.startswith("storage.") for right in rights), "storage is given by bucket"
            if name == "secrets":
                assert "/secrets/pe-beam-" in body["condition"][0]["expression"]
        assert not kind.endswith(("_iam_binding", "_iam_policy")), "these take away what others have given"


def test_what_a_new_project_has_to_turn_on_is_on_before_it_is_asked() -> None:
    """In a new project IAM and Resource Manager are off; the first `apply` would fail half-way."""
    services = [str(body["for_each"]) for (kind, _), body in RESOURCES.items() if kind == "google_project_service"]
    for api in ("iam", "cloudresourcemanager", "dataflow", "workflows", "artifactregistry"):
        assert f"{api}.googleapis.com" in services[0]
    first = ("google_service_account", "google_project_iam_custom_role", "google_kms_crypto_key_iam_member")
    waiting = [body for (kind, _), body in RESOURCES.items() if kind in first]
    waiting += [named["this"] for block in blocks("data") for kind, named in block.items() if kind == "google_project"]
    assert len(waiting) > 10
    for body in waiting:
        assert "google_project_service.needed" in str(body["depends_on"])


def test_the_provider_knows_what_is_used_of_it() -> None:
    """`deletion_protection` of a workflow came with 6.11.0, as the bindings of its releases show."""
    [wanted] = [block["required_providers"][0]["google"] for block in blocks("terraform")]
    assert wanted["version"] == ">= 6.11, < 8.0"


def test_references_resolve() -> None:
    names = {f"{kind}.{name}" for kind, name in RESOURCES}
    names |= {f"data.{kind}.{name}" for block in blocks("data") for kind, named in block.items() for name in named}
    names |= {f"var.{name}" for block in blocks("variable") for name in block}
    names |= {f"local.{name}" for block in blocks("locals") for name in block}
    used = set()
    for file in FILES:
        text = re.sub(r"#.*", "", file.read_text())
        used |= {match.group(0) for match in re.finditer(r"\b(?:data\.google_\w+|google_\w+|var|local)\.\w+", text)}
    used = {each for each in used if not re.match(r"google_\w+\.google", each)}
    assert {each for each in used if not each.startswith("google_project_service.")} <= names
    assert {each for each in names if each.startswith("var.")} <= used, "a variable that nothing reads"


def test_each_variable_and_output_says_what_it_is() -> None:
    for kind in ("variable", "output"):
        for block in blocks(kind):
            for body in block.values():
                assert str(body["description"]).endswith("."), block
    assert {path.name for path in FILES} == {"access.tf", "main.tf", "outputs.tf", "variables.tf", "versions.tf"}
