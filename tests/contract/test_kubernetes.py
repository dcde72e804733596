"""The manifests in deploy/kuberay: strict schemas, mistakes that these must catch, and what every pod promises."""

import copy
import json
import re
import shutil
import subprocess
import zoneinfo
from importlib import resources
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "deploy" / "kuberay"
KUBERNETES = kubernetes_validate.latest_version()
FILES = sorted(path for path in KUBERAY.rglob("*.yaml") if path.name != "kustomization.yaml")
CUSTOMIZATION = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text())


def read(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


DOCUMENTS = [(path, document) for path in FILES for document in read(path)]


def named(kind, name="boldstream"):
    """Return a copy of a document, to break it."""
    found = [document for _, document in DOCUMENTS if document["kind"] == kind]
    return copy.deepcopy(next(document for document in found if document["metadata"].get("name", "").startswith(name)))


@pytest.fixture(scope="session")
def of_ray():
    """A strict validator of Ray's kinds, with Kubernetes' own pod templates."""
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{KUBERNETES}-local-strict"
    kubernetes = Resource.from_contents(json.loads((folder / "_definitions.json").read_text()))
    schema = yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text())
    return jsonschema.Draft202012Validator(schema, registry=kubernetes @ Registry())


@pytest.fixture(scope="session")
def check(of_ray):
    def validate(document):
        if document["apiVersion"].startswith("ray.io/"):
            of_ray.validate(document)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)

    return validate


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KUBERAY)))
def test_manifest__is_valid_to_the_letter(check, path):
    documents = read(path)
    assert documents
    for document in documents:
        check(document)


@pytest.mark.parametrize(
    ("kind", "where", "key", "value", "message"),
    [
        ("RayCluster", "spec", "authOption", {"mode": "token"}, "'authOption' was unexpected"),
        ("RayCluster", "spec.authOptions", "mode", "disabled", "'disabled' is not one of"),
        ("RayCluster", "spec.authOptions", "secret", "x", "'secret' was unexpected"),
        ("RayCluster", "spec", "rayVersion", 2.6, "2.6 is not of type 'string'"),
        ("RayCluster", "spec", "enableInTreeAutoscaling", "yes", "'yes' is not of type 'boolean'"),
        ("RayCluster", "spec.autoscalerOptions", "idleTimeout", 300, "'idleTimeout' was unexpected"),
        ("RayCluster", "spec.autoscalerOptions.securityContext", "readOnlyRootFileSystem", True, "was unexpected"),
        ("RayCluster", "spec.headGroupSpec.rayStartParams", "num-cpus", 0, "0 is not of type 'string'"),
        ("RayCluster", "spec.headGroupSpec", "replicas", 1, "'replicas' was unexpected"),
        ("RayCluster", "spec.workerGroupSpecs.0", "maxReplica", 3, "'maxReplica' was unexpected"),
        ("RayCluster", "spec.workerGroupSpecs.1", "minReplicas", "1", "'1' is not of type 'integer'"),
        ("RayCluster", "spec.workerGroupSpecs.1.template.spec", "toleration", [], "'toleration' was unexpected"),
        ("RayCluster", "spec.workerGroupSpecs.1.template.spec.containers.0", "imag", "x", "'imag' was unexpected"),
        ("RayCluster", "spec.headGroupSpec.template.spec.volumes.0", "emptydir", {}, "'emptydir' was unexpected"),
        ("RayCluster", "metadata", "name", "Bold_Stream", "does not match"),
        ("RayCluster", "", "apiVersion", "ray.io/v1alpha1", "'ray.io/v1' was expected"),
        ("RayJob", "spec", "entryPoint", "x", "'entryPoint' was unexpected"),
        ("RayJob", "spec", "submissionMode", "HttpMode", "'HttpMode' is not one of"),
        ("RayJob", "spec", "clusterSelector", {"app": "boldstream"}, "'app' was unexpected"),
        ("RayJob", "spec", "ttlSecondsAfterFinished", 60, "'shutdownAfterJobFinishes' is a dependency"),
        ("RayCronJob", "spec", "concurrencyPolicy", "Forbid", "'concurrencyPolicy' was unexpected"),
        ("RayCronJob", "spec", "schedule", "TZ=UTC 0 2 * * *", "does not match"),
        ("RayCronJob", "spec", "timezone", "UTC", "'timezone' was unexpected"),
        ("RayCronJob", "spec.jobTemplate", "spec", {}, "'spec' was unexpected"),
        ("CronJob", "spec", "timezone", "UTC", "'timezone' was unexpected"),
        ("CronJob", "spec", "concurrencyPolicies", "Forbid", "'concurrencyPolicies' was unexpected"),
        ("CronJob", "spec.jobTemplate.spec.template.spec.containers.0", "arguments", [], "'arguments' was unexpected"),
        ("NetworkPolicy", "spec", "egres", [], "'egres' was unexpected"),
        ("NetworkPolicy", "spec.ingress.0.from.0", "podSelectors", {}, "'podSelectors' was unexpected"),
    ],
)
def test_seeded_mistake__is_caught(check, kind, where, key, value, message):
    document = named(kind, name="" if kind == "RayJob" else "boldstream")
    place = document
    for step in where.split(".") if where else []:
        place = place[int(step) if step.isdigit() else step]
    place[key] = value
    with pytest.raises(jsonschema.ValidationError, match=re.escape(message)):
        check(document)


@pytest.mark.parametrize("path", ["spec.headGroupSpec", "spec.rayVersion", "spec.authOptions", "spec", "metadata"])
def test_missing_part__is_caught(check, path):
    document = named("RayCluster")
    *steps, last = path.split(".")
    place = document
    for step in steps:
        place = place[step]
    del place[last]
    with pytest.raises(jsonschema.ValidationError, match=f"'{last}' is a required property"):
        check(document)


def pods():
    """Yield every pod of the manifests, with its name."""
    for path, document in DOCUMENTS:
        spec = document["spec"]
        if document["kind"] == "RayCluster":
            yield f"{path.name} head", spec["headGroupSpec"]["template"]["spec"]
            for group in spec["workerGroupSpecs"]:
                yield f"{path.name} {group['groupName']}", group["template"]["spec"]
        elif document["kind"] == "CronJob":
            yield path.name, spec["jobTemplate"]["spec"]["template"]["spec"]


PODS = dict(pods())


def test_pods__are_all_there():
    assert list(PODS) == ["cluster.yaml head", "cluster.yaml cpu", "cluster.yaml gpu", "nightly-cronjob.yaml"]


@pytest.mark.parametrize("pod", PODS)
def test_pod__runs_as_nobody_on_a_read_only_disk(pod):
    person = PODS[pod]["securityContext"]
    assert (person["runAsNonRoot"], person["runAsUser"], person["seccompProfile"]["type"]) == (
        True,
        1000,
        "RuntimeDefault",
    )
    volumes = {volume["name"]: volume for volume in PODS[pod]["volumes"]}
    assert all(set(volume) == {"name", "emptyDir"} for volume in volumes.values())
    for container in PODS[pod]["containers"]:
        locked = container["securityContext"]
        assert (locked["readOnlyRootFilesystem"], locked["allowPrivilegeEscalation"]) == (True, False)
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/home/boldstream"}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert container["resources"]["requests"]["cpu"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("pod", PODS)
def test_pod__takes_secrets_from_secrets_only(pod):
    for container in PODS[pod]["containers"]:
        for variable in container.get("env", ()):
            secret = re.search("TOKEN|PASSWORD|SECRET|KEY", variable["name"])
            assert not secret or set(variable["valueFrom"]) == {"secretKeyRef"}
    settings = dict(line.split("=", 1) for line in CUSTOMIZATION["configMapGenerator"][0]["literals"])
    assert not [name for name in settings if re.search("TOKEN|PASSWORD|SECRET|ACCESS_KEY", name)]


def test_cluster__has_gpus_in_one_group_and_as_many_requested_as_allowed():
    groups = {group["groupName"]: group for group in named("RayCluster")["spec"]["workerGroupSpecs"]}
    ask = {name: group["template"]["spec"]["containers"][0]["resources"] for name, group in groups.items()}
    assert ask["gpu"]["requests"]["nvidia.com/gpu"] == ask["gpu"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in ask["cpu"]["limits"]
    assert groups["gpu"]["minReplicas"] == 0  # jobs wait for them, see test_entrypoints.py


def test_cluster__is_of_the_ray_that_is_pinned():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
    assert named("RayCluster")["spec"]["rayVersion"] == pinned


@pytest.mark.parametrize("kind", ["CronJob", "RayCronJob"])
def test_nightly__names_a_time_zone_that_exists(kind):
    assert zoneinfo.ZoneInfo(named(kind)["spec"]["timeZone"])


def test_cronjob__never_runs_two_nights_at_once_nor_one_twice():
    spec = named("CronJob")["spec"]
    container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert [rule["action"] for rule in spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]] == [
        "Ignore",
        "FailJob",
    ]
    # a second pod of the same night follows what the first has submitted, by a name with the same zone's date
    assert "--follow" in container["args"]
    assert container["args"][container["args"].index("--time-zone") + 1] == spec["timeZone"]


def test_references__point_at_what_is_there():
    text = "".join(path.read_text() for path in FILES)
    head = (KUBERAY / "kustomization.yaml").read_text()
    assert set(re.findall(r"configMapRef: \{name: ([\w-]+)\}", text)) == {
        CUSTOMIZATION["configMapGenerator"][0]["name"]
    }
    secrets = set(re.findall(r"(?:secretRef: \{name|secretKeyRef: \{name|secretName): ([\w-]+)", text))
    assert secrets == set(re.findall(r"create secret generic ([\w-]+)", head))
    name = named("RayCluster")["metadata"]["name"]
    assert set(re.findall(r"ray.io/cluster: ([\w-]+)", text)) == {name}
    assert set(re.findall(r"http://([\w-]+):8265", text)) == {f"{name}-head-svc", "localhost"}


def test_customization__lists_files_that_are_there_and_every_image():
    assert all((KUBERAY / name).is_file() for name in CUSTOMIZATION["resources"])
    assert {path.name for path in KUBERAY.glob("*.yaml")} - set(CUSTOMIZATION["resources"]) == {
        "kustomization.yaml",
        "nightly-raycronjob.yaml",
    }
    images = {container["image"].partition(":")[0] for pod in PODS.values() for container in pod["containers"]}
    assert images == {image["name"] for image in CUSTOMIZATION["images"]}


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed: the rendering is not tried")
def test_customization__renders_to_manifests_that_are_valid(check):
    command = ["kubectl", "kustomize", str(KUBERAY)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    documents = list(yaml.safe_load_all(found.stdout))
    for document in documents:
        check(document)
    assert {document["metadata"]["namespace"] for document in documents} == {CUSTOMIZATION["namespace"]}
    new = CUSTOMIZATION["images"][0]["newName"]
    assert set(re.findall(r"image: (\S+)", found.stdout)) == {f"{new}:cpu", f"{new}:cuda"}
