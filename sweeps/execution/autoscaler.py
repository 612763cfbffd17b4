"""The nodes that a cluster's autoscaler may add, read from the cluster's own file: Ray does not report them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sweeps.execution.cluster import Node
from sweeps.spec.validation import InputError, Problem

OPTION = "--cluster"


def potential_nodes(path: Path) -> tuple[Node, ...]:
    """The kinds of nodes in a file for Ray's launcher (``ray up``) or KubeRay, each with its largest count.

    If a file has several manifests, the first RayCluster or RayJob is used. Raises ``InputError`` for a file that is
    neither, or that does not give its nodes' resources.
    """
    try:
        documents = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if isinstance(each, dict)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(OPTION, [Problem("", f"{path} cannot be read: {' '.join(str(error).split())}")]) from None
    for document in documents:
        try:
            if "available_node_types" in document:
                return tuple(_of_launcher(document))
            spec = document.get("spec", {})
            spec = spec.get("rayClusterSpec", spec)
            if document.get("kind") in ("RayCluster", "RayJob") and "workerGroupSpecs" in spec:
                return tuple(_of_kuberay(group) for group in spec["workerGroupSpecs"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"{path} does not give the resources of its nodes: {type(error).__name__}: {error}"
            raise InputError(OPTION, [Problem("", message)]) from None
    message = f"{path} must be a file for `ray up` (available_node_types) or a RayCluster or RayJob of KubeRay"
    raise InputError(OPTION, [Problem("", message)])


def _of_launcher(document: Mapping[str, Any]) -> Iterator[Node]:
    most = int(document.get("max_workers", 2))  # Ray's own default
    for name, kind in document["available_node_types"].items():
        if name == document.get("head_node_type"):
            continue
        have = kind["resources"]
        count = min(most, int(kind.get("max_workers", most)))
        yield Node(float(have.get("CPU", 0)), float(have.get("GPU", 0)), count)


def _of_kuberay(group: Mapping[str, Any]) -> Node:
    start = group.get("rayStartParams") or {}
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    cpus = start.get("num-cpus", limits.get("cpu", 0))
    gpus = start.get("num-gpus", limits.get("nvidia.com/gpu", 0))
    return Node(_cores(str(cpus)), float(gpus), int(group["maxReplicas"]))


def _cores(text: str) -> float:
    """The number of CPUs in a Kubernetes quantity, whole or in thousandths: ``4`` or ``500m``."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
