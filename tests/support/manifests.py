"""The Kubernetes manifests of `config/kubernetes` as values, and what a restricted cluster refuses.

The rules are those of the Pod Security Standard "restricted"; they are written down here, and
not taken from a library, since a cluster is not at hand to refuse anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent.parent
KUBERNETES: Final = ROOT / "config/kubernetes"
RESTRICTED_VOLUMES: Final = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
     "projected", "secret"}
)  # fmt: skip

Manifest = dict[str, Any]


def documents_in(text: str) -> list[Manifest]:
    """Return the documents of a YAML text; the library brings no types."""
    yaml: Any = import_module("yaml")
    return [document for document in yaml.safe_load_all(text) if document is not None]


def only_document(path: Path) -> Manifest:
    """Return the one document of a file."""
    (document,) = documents_in(path.read_text("utf-8"))
    return document


def base_manifest(kind: str) -> Manifest:
    """Return the base's one manifest of a kind."""
    manifests = [only_document(path) for path in sorted((KUBERNETES / "base").glob("*.yaml"))]
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod_of(stateful_set: Manifest) -> Manifest:
    """Return the pod's own specification."""
    pod: Manifest = stateful_set["spec"]["template"]["spec"]
    return pod


def container(pod: Manifest, name: str) -> Manifest:
    """Return one container, whichever list it is in."""
    (found,) = [each for each in _containers(pod) if each["name"] == name]
    return found


def environment_of(pod: Manifest, *, secrets: Path) -> dict[str, str]:
    """Return what the sidecar's container sets itself, its mounted files taken from `secrets`."""
    given: list[dict[str, str]] = container(pod, "akoya-sidecar")["env"]
    return {
        each["name"]: each["value"].replace("/run/secrets/akoya-sidecar", str(secrets))
        for each in given
    }


def refusals(pod: Manifest) -> Iterator[str]:
    """Yield what the standard refuses in a pod, and one thing more: a root that can be written."""
    whole = pod.get("securityContext", {})
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "the pod shares a namespace of its node"
    for volume in pod.get("volumes", []):
        if not RESTRICTED_VOLUMES & volume.keys():
            yield f"volume {volume['name']} is of a kind that is not allowed"
    for each in _containers(pod):
        own = each.get("securityContext", {})
        merged = {**whole, **own}
        name = each["name"]
        if merged.get("runAsNonRoot") is not True or not merged.get("runAsUser", 1):
            yield f"{name} may run as root"
        if merged.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{name} may gain privileges"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or capabilities.get("add"):
            yield f"{name} keeps capabilities"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its root file system"
        if any("hostPort" in port for port in each.get("ports", [])):
            yield f"{name} takes a port of its node"


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]
