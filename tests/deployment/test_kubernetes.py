from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.http.probes import PROBE_PATHS
from sidecar.settings import Settings, load
from tests.support.environment import good_environment
from tests.support.manifests import (
    KUBERNETES,
    ROOT,
    Manifest,
    base_manifest,
    container,
    environment_of,
    only_document,
    pod_of,
    refusals,
)

APP_STOPS_WITHIN_S: Final = 30
MARGIN_S: Final = 15
OLDEST_WITH_NATIVE_SIDECARS: Final = 29
SIDECAR: Final = "akoya-sidecar"
CUSTOM: Final = frozenset({"PodMonitor", "PrometheusRule"})
FILES: Final = sorted(KUBERNETES.rglob("*.yaml"))
MANIFESTS: Final = [path for path in FILES if path.name != "kustomization.yaml"]
SECRETS: Final = {
    "akoya_client_secret": good_environment()["SIDECAR_AKOYA_CLIENT_SECRET"],
    "redis_url": "rediss://sidecar:secret@redis.example:6379/0",
    "encryption_keys": good_environment()["SIDECAR_ENCRYPTION_KEYS"],
    "hash_key": good_environment()["SIDECAR_HASH_KEY"],
    "control_keys": good_environment()["SIDECAR_CONTROL_KEYS"],
}
"""What the Secret `akoya-sidecar` holds, as the how-to page has it made."""


@pytest.fixture(name="settings")
def settings_of_the_example(tmp_path: Path) -> Settings:
    """What the sidecar reads in the example's pod."""
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value + "\n", "utf-8")
    lines = (KUBERNETES / "example/sidecar.env").read_text("utf-8").splitlines()
    configured = dict(line.split("=", 1) for line in lines)
    stateful_set = base_manifest("StatefulSet")
    settings = load(configured | environment_of(pod_of(stateful_set), secrets=tmp_path))
    assert isinstance(settings, Settings), settings
    return settings


def labels_of_pods() -> dict[str, str]:
    labels: dict[str, str] = base_manifest("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    return labels


def relative(path: Path) -> str:
    return str(path.relative_to(KUBERNETES))


@pytest.mark.parametrize("path", MANIFESTS, ids=relative)
def test_a_manifest_is_built_by_the_kustomization_beside_it(path: Path) -> None:
    """No file lies about that is applied by nobody, and no name leads nowhere."""
    kustomization = only_document(path.parent / "kustomization.yaml")

    assert path.name in kustomization["resources"]
    assert all((path.parent / name).exists() for name in kustomization["resources"])


@pytest.mark.parametrize("minor", range(OLDEST_WITH_NATIVE_SIDECARS, 38))
def test_a_manifest_fits_the_schemas_of_kubernetes(minor: int) -> None:
    """Each release since native sidecars takes every field, and none is misspelt."""
    kubernetes_validate: Any = import_module("kubernetes_validate")

    for path in MANIFESTS:
        manifest = only_document(path)
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, f"1.{minor}", strict=True)


def test_the_schemas_notice_a_misspelt_field() -> None:
    """A field that no release knows is refused, or the test above would show nothing."""
    kubernetes_validate: Any = import_module("kubernetes_validate")
    manifest = base_manifest("StatefulSet")
    pod_of(manifest)["terminationGracePeriod"] = 150

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, f"1.{OLDEST_WITH_NATIVE_SIDECARS}", strict=True)


def test_a_restricted_cluster_takes_the_pod() -> None:
    """Both containers keep to the Pod Security Standard "restricted", and write to volumes only."""
    assert list(refusals(pod_of(base_manifest("StatefulSet")))) == []
    labels = only_document(KUBERNETES / "example/namespace.yaml")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def weaken_user(pod: Manifest) -> None:
    pod["securityContext"]["runAsNonRoot"] = False


def weaken_root_user(pod: Manifest) -> None:
    container(pod, "app")["securityContext"]["runAsUser"] = 0


def weaken_seccomp(pod: Manifest) -> None:
    del pod["securityContext"]["seccompProfile"]


def weaken_escalation(pod: Manifest) -> None:
    del container(pod, SIDECAR)["securityContext"]["allowPrivilegeEscalation"]


def weaken_capabilities(pod: Manifest) -> None:
    container(pod, SIDECAR)["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]


def weaken_root_file_system(pod: Manifest) -> None:
    container(pod, SIDECAR)["securityContext"]["readOnlyRootFilesystem"] = False


def weaken_host_path(pod: Manifest) -> None:
    pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def weaken_host_network(pod: Manifest) -> None:
    pod["hostNetwork"] = True


def weaken_host_port(pod: Manifest) -> None:
    container(pod, SIDECAR)["ports"][0]["hostPort"] = 9464


@pytest.mark.parametrize(
    "weaken",
    [
        weaken_user,
        weaken_root_user,
        weaken_seccomp,
        weaken_escalation,
        weaken_capabilities,
        weaken_root_file_system,
        weaken_host_path,
        weaken_host_network,
        weaken_host_port,
    ],
)
def test_a_weaker_pod_is_refused(weaken: Callable[[Manifest], None]) -> None:
    """Each thing that the standard forbids is noticed where somebody lets it in."""
    pod = copy.deepcopy(pod_of(base_manifest("StatefulSet")))

    weaken(pod)

    assert list(refusals(pod))


def test_the_sidecar_is_there_before_the_app_and_after_it() -> None:
    """It is a native sidecar, and its start-up probe holds the app back until it serves."""
    pod = pod_of(base_manifest("StatefulSet"))

    (first, *_) = pod["initContainers"]
    assert first["name"] == SIDECAR
    assert first["restartPolicy"] == "Always"
    assert first["startupProbe"]["httpGet"]["path"] == "/startupz"


def test_the_probes_ask_what_the_sidecar_answers() -> None:
    """Each path is one of the metrics listener, and the port is the one it listens on."""
    sidecar = container(pod_of(base_manifest("StatefulSet")), SIDECAR)
    probes = [sidecar[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} == set(PROBE_PATHS)
    assert {probe["port"] for probe in probes} == {sidecar["ports"][0]["name"]}


def test_the_manifests_configure_a_sidecar(settings: Settings) -> None:
    """What the pod sets is a whole configuration, in production, each secret from a file."""
    assert settings.akoya_environment == "production"
    assert settings.redis_url.reveal() == SECRETS["redis_url"]
    assert str(settings.proxy_listen) == "127.0.0.1:8080"
    assert str(settings.control_listen) == "127.0.0.1:8081"
    port = container(pod_of(base_manifest("StatefulSet")), SIDECAR)["ports"][0]["containerPort"]
    assert str(settings.metrics_listen).endswith(f":{port}")


def test_the_spool_outlives_the_pod(settings: Settings) -> None:
    """It lies on a claim that belongs to the replica and is deleted by nobody."""
    stateful_set = base_manifest("StatefulSet")
    sidecar = container(pod_of(stateful_set), SIDECAR)
    (claim,) = stateful_set["spec"]["volumeClaimTemplates"]
    (mount,) = [
        mount for mount in sidecar["volumeMounts"] if mount["name"] == claim["metadata"]["name"]
    ]

    assert Path(settings.spool_dir).parent == Path(mount["mountPath"])
    assert not mount.get("readOnly")
    assert set(stateful_set["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def test_the_app_sees_neither_keys_nor_spool() -> None:
    """Whoever takes the app over has the sidecar's answers, not its secrets."""
    stateful_set = base_manifest("StatefulSet")
    app = container(pod_of(stateful_set), "app")

    assert "volumeMounts" not in app
    assert "envFrom" not in app


def test_a_drain_has_the_time_it_may_need(settings: Settings) -> None:
    """The grace period holds the app's end and the longest drain, one after the other."""
    grace_s = pod_of(base_manifest("StatefulSet"))["terminationGracePeriodSeconds"]

    assert grace_s >= APP_STOPS_WITHIN_S + settings.drain_timeout_s + MARGIN_S


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("Service", ("spec", "selector")),
        ("PodDisruptionBudget", ("spec", "selector", "matchLabels")),
        ("NetworkPolicy", ("spec", "podSelector", "matchLabels")),
        ("PodMonitor", ("spec", "selector", "matchLabels")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_meant_for_the_pods_selects_them(kind: str, path: tuple[str, ...]) -> None:
    """A label that was renamed in one place leaves no pod without its policy or its scrape."""
    selector: Any = base_manifest(kind)
    for name in path:
        selector = selector[name]

    assert selector
    assert selector.items() <= labels_of_pods().items()


def test_only_the_metrics_of_a_sidecar_can_be_reached_from_outside() -> None:
    """The policy opens the app's port to all and the metrics to Prometheus; tokens to nobody."""
    policy = base_manifest("NetworkPolicy")["spec"]
    pod = pod_of(base_manifest("StatefulSet"))
    port_of = {
        each["name"]: each["ports"][0]["containerPort"]
        for each in (container(pod, "app"), container(pod, SIDECAR))
    }

    opened = {
        port["port"]: rule.get("from") for rule in policy["ingress"] for port in rule["ports"]
    }
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert opened.keys() == set(port_of.values())
    assert opened[port_of[SIDECAR]]


def test_the_way_to_akoya_leads_nowhere_else() -> None:
    """The public address range leaves out the cluster, private networks and cloud metadata."""
    rules = base_manifest("NetworkPolicy")["spec"]["egress"]
    (block,) = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]

    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(
        block["except"]
    )


def test_the_cluster_has_the_rules_of_the_rule_files() -> None:
    """`make docs` was run after a rule was changed, and left nothing out."""
    made = subprocess.run(
        ["sh", KUBERNETES / "make-rules.sh"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    ).stdout
    files = [ROOT / f"config/prometheus/{name}.yml" for name in ("recording", "alerts")]

    assert (KUBERNETES / "base/prometheusrule.yaml").read_text("utf-8") == made
    assert base_manifest("PrometheusRule")["spec"]["groups"] == [
        group for file in files for group in only_document(file)["groups"]
    ]


def test_a_sidecar_is_scraped_under_the_job_that_the_rules_ask_for() -> None:
    """The alert on a sidecar that is down finds the pods of the cluster."""
    (endpoint,) = base_manifest("PodMonitor")["spec"]["podMetricsEndpoints"]
    (job,) = [each for each in endpoint["relabelings"] if each["targetLabel"] == "job"]
    alerts = (ROOT / "config/prometheus/alerts.yml").read_text("utf-8")

    assert (
        endpoint["port"]
        == container(pod_of(base_manifest("StatefulSet")), SIDECAR)["ports"][0]["name"]
    )
    assert f'job="{job["replacement"]}"' in alerts
