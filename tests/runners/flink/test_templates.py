"""pom, config.yaml, Dockerfile and manifests: strict against the operator's own schema, and agreeing on names."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pe_beam.runners.flink import install
from pe_beam.runners.flink.install import TEMPLATES
from pe_beam.storage import open_store
from tests.pods import demand_few_rights

OPERATOR = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"
CRD = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
# What `config.yaml` says under its first heading, which a cluster of one's own needs too.
NEEDED = yaml.safe_load((TEMPLATES / "config.yaml").read_text().split("# --- One machine")[0])


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((TEMPLATES / "kubernetes" / name).read_text()))


def document(name: str, kind: str) -> dict[str, Any]:
    (found,) = [each for each in documents(name) if each["kind"] == kind]
    return found


TOPS = ("", "store/")
"""Manifests for run directories on a volume, and on an object store."""
tops = pytest.mark.parametrize("top", TOPS)


# --- a strict reading of an OpenAPI v3 schema ----------------------------------------------------------------

TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "number": (int, float)}


def faults(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """Unknown keys, missing keys, wrong types and values outside an enumeration."""
    if schema.get("x-kubernetes-int-or-string"):
        return [] if type(value) in (int, str) else [f"{where}: a number or a string is wanted"]
    kind = schema["type"]
    right = isinstance(value, TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")
    if not right:
        return [f"{where}: {kind} is wanted"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value} is none of {schema['enum']}"]
    if kind == "array":
        return [fault for i, item in enumerate(value) for fault in faults(item, schema["items"], f"{where}[{i}]")]
    if kind != "object":
        return []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    found = [f"{where}.{key}: missing" for key in schema.get("required", []) if key not in value]
    for key, item in value.items():
        if key in known:
            found += faults(item, known[key], f"{where}.{key}")
        elif isinstance(others, dict):
            found += faults(item, others, f"{where}.{key}")
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.append(f"{where}.{key}: unknown")
    return found


def test_the_strict_reading_is_strict():
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "integer"}, "b": {"type": "string", "enum": ["x"]}},
    }
    assert faults({"a": 1, "b": "x"}, schema) == []
    assert faults({"b": "y", "c": 1}, schema) == [".a: missing", ".b: y is none of ['x']", ".c: unknown"]
    assert faults({"a": True}, schema) == [".a: integer is wanted"]


@pytest.fixture(scope="module")
def spec_schema(flink_pieces) -> dict[str, Any]:
    """The schema of a FlinkDeployment's spec, out of the operator's own jar."""
    folder = install.cache_folder()
    jar = folder / (OPERATOR.split(":", 1)[1].replace(":", "-") + ".jar")
    if not jar.exists():
        copy = ["mvn", "-B", "-ntp", "-q", "dependency:copy", f"-Dartifact={OPERATOR}", f"-DoutputDirectory={folder}"]
        subprocess.run(copy, check=True, capture_output=True)
    with zipfile.ZipFile(jar) as archive:
        crd = yaml.safe_load(archive.read(CRD))
    (version,) = crd["spec"]["versions"]
    assert version["name"] == "v1beta1"
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


@tops
@pytest.mark.xdist_group("flink")
def test_the_session_cluster_is_what_the_operator_takes(spec_schema, top):
    deployment = document(f"{top}cluster.yaml", "FlinkDeployment")
    assert set(deployment) == {"apiVersion", "kind", "metadata", "spec"}
    assert deployment["apiVersion"] == "flink.apache.org/v1beta1"
    assert faults(deployment["spec"], spec_schema) == []
    assert faults({**deployment["spec"], "flinkVersion": "v1_99"}, spec_schema)
    assert faults({**deployment["spec"], "jobmanager": {}}, spec_schema) == [".jobmanager: unknown"]
    assert "job" not in deployment["spec"], "a session cluster has no job of its own"


@tops
@pytest.mark.xdist_group("flink")
@pytest.mark.parametrize(("name", "kind"), [("job-server.yaml", "Deployment"), ("run.yaml", "Job")])
def test_the_other_pods_are_pods(spec_schema, top, name, kind):
    pod_schema = spec_schema["properties"]["podTemplate"]
    template = document(f"{top}{name}", kind)["spec"]["template"]
    assert faults(template, pod_schema) == []
    broken = {**template, "spec": {**template["spec"], "container": []}}
    assert faults(broken, pod_schema) == [".spec.container: unknown"]


@tops
@pytest.mark.parametrize(("name", "kind"), [("job-server.yaml", "Deployment"), ("run.yaml", "Job")])
def test_the_other_pods_have_few_rights(top, name, kind):
    """A namespace that enforces the `restricted` standard would refuse them; the operator makes the cluster's own."""
    demand_few_rights(document(f"{top}{name}", kind)["spec"]["template"]["spec"])


@tops
def test_only_known_keys_around_the_pods(top):
    allowed = {
        "Deployment": {"replicas", "selector", "template"},
        "Job": {"backoffLimit", "template"},
        "Service": {"selector", "ports"},
        "PersistentVolumeClaim": {"accessModes", "resources"},
    }
    versions = {"Deployment": "apps/v1", "Job": "batch/v1", "Service": "v1", "PersistentVolumeClaim": "v1"}
    for name in ("cluster.yaml", "job-server.yaml", "run.yaml"):
        for each in documents(f"{top}{name}"):
            assert set(each) == {"apiVersion", "kind", "metadata", "spec"}
            if each["kind"] in allowed:
                assert set(each["spec"]) == allowed[each["kind"]]
                assert each["apiVersion"] == versions[each["kind"]]


# --- names agree ---------------------------------------------------------------------------------------------


def pods(top: str) -> list[dict[str, Any]]:
    flink = document(f"{top}cluster.yaml", "FlinkDeployment")["spec"]
    others = (("job-server.yaml", "Deployment"), ("run.yaml", "Job"))
    found = [document(f"{top}{name}", kind)["spec"]["template"]["spec"] for name, kind in others]
    return [flink["taskManager"]["podTemplate"]["spec"], *found]


def containers(top: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for pod in pods(top) for each in pod["containers"]}


@tops
def test_names_and_ports_agree(top):
    deployment = document(f"{top}cluster.yaml", "FlinkDeployment")
    service = document(f"{top}job-server.yaml", "Service")
    server, driver, pool = (containers(top)[name] for name in ("job-server", "driver", "worker-pool"))
    rest = f"{deployment['metadata']['name']}-rest:8081"  # the operator's name for it
    assert f"--flink-master={rest}" in server["command"]
    assert f"--flink_master={rest}" in driver["command"]
    ports = {port["name"]: port for port in service["spec"]["ports"]}
    own = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert {name: port["port"] for name, port in ports.items()} == own
    assert all(port["targetPort"] in own for port in ports.values())
    assert f"--job-port={own['job']}" in server["command"]
    assert f"--artifact-port={own['artifact']}" in server["command"]
    assert f"--job_endpoint={service['metadata']['name']}:{own['job']}" in driver["command"]
    (worker,) = [port["containerPort"] for port in pool["ports"]]
    assert f"--environment_config=localhost:{worker}" in driver["command"]
    assert pool["command"][-2:] == ["--port", str(worker)]
    labels = document(f"{top}job-server.yaml", "Deployment")["spec"]
    assert labels["selector"]["matchLabels"] == labels["template"]["metadata"]["labels"] == service["spec"]["selector"]
    slots = int(deployment["spec"]["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])
    assert f"--parallelism={slots}" in driver["command"]


def test_all_pods_share_the_volume_of_runs():
    claim = document("cluster.yaml", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in ("worker-pool", "job-server", "driver"):
        assert {"name": "runs", "mountPath": "/runs"} in containers("")[name]["volumeMounts"]
    text = "".join(path.read_text() for path in (TEMPLATES / "kubernetes").glob("*.yaml"))
    assert set(re.findall(r"claimName: (\S+)", text)) == {claim["metadata"]["name"]}


def test_on_a_store_no_pod_has_a_volume_that_others_see():
    text = "".join(path.read_text() for path in (TEMPLATES / "kubernetes/store").glob("*.yaml"))
    assert "persistentVolumeClaim" not in text
    assert "PersistentVolumeClaim" not in text
    assert "/runs/." not in text
    kinds = [set(volume) - {"name"} for pod in pods("store/") for volume in pod.get("volumes", [])]
    assert {kind for each in kinds for kind in each} == {"emptyDir", "configMap"}
    for pod in pods("store/"):
        named = {volume["name"] for volume in pod.get("volumes", [])}
        assert {each["name"] for c in pod["containers"] for each in c.get("volumeMounts", [])} == named


def test_on_a_store_driver_and_workers_have_its_environment_and_the_job_server_has_not():
    for name in ("worker-pool", "driver"):
        assert containers("store/")[name]["envFrom"] == [{"secretRef": {"name": "pe-beam-store", "optional": True}}]
    assert "envFrom" not in containers("store/")["job-server"]
    account = document("store/cluster.yaml", "FlinkDeployment")["spec"]["serviceAccount"]
    assert document("store/run.yaml", "Job")["spec"]["template"]["spec"]["serviceAccountName"] == account
    (uri,) = re.findall(r"--run-dir=(\S+)", " ".join(containers("store/")["driver"]["command"]))
    assert open_store(uri).remote
    docker = (TEMPLATES / "Dockerfile").read_text()
    assert "ARG EXTRAS=gcp,s3,azure\n" in docker
    assert 'pip install --no-cache-dir ".[${EXTRAS}]"' in docker


@tops
def test_the_cluster_is_configured_as_the_local_one(top):
    given = document(f"{top}cluster.yaml", "FlinkDeployment")["spec"]["flinkConfiguration"]
    assert {key: str(value) for key, value in NEEDED.items()} == {
        key: value for key, value in given.items() if key != "taskmanager.numberOfTaskSlots"
    }


def test_images_and_versions_agree():
    docker = (TEMPLATES / "Dockerfile").read_text()
    used = set(re.findall(r"image: (\S+)", "".join(p.read_text() for p in (TEMPLATES / "kubernetes").rglob("*.yaml"))))
    assert used == set(re.findall(r"-t (\S+) \.", docker))
    version = install.FLINK_PACKAGE.split("==")[1]
    assert version.startswith(install.FLINK_LINE + ".")
    assert f"FROM flink:{version}-" in docker
    flink = document("cluster.yaml", "FlinkDeployment")["spec"]
    assert flink["flinkVersion"] == "v" + install.FLINK_LINE.replace(".", "_")
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    pom = ET.parse(TEMPLATES / "pom.xml").getroot()
    assert pom.findtext("m:properties/m:flink.line", namespaces=space) == install.FLINK_LINE
    made = {Path(e.text or "").name for e in pom.iterfind(".//m:outputFile", space)}
    assert made == {"beam-flink-job-server.jar", "beam-flink-job-server-thin.jar"}
    copied = re.findall(r"--from=jars /build/target/(\S+)", docker)
    assert set(copied) <= made
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", docker, re.MULTILINE):
        for name in source.split():
            assert (TEMPLATES.parents[1] / name).exists(), name
    worker = containers("")["worker-pool"]["command"]
    assert containers("store/")["worker-pool"]["command"] == worker
    assert f"CMD {str(worker).replace(chr(39), chr(34))}" in docker
