"""What a cluster's own file says of the nodes that may come."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.execution.autoscaler import potential_nodes
from sweeps.execution.cluster import Capacity, Node
from sweeps.spec.model import Resources
from sweeps.spec.validation import InputError

ROOT = Path(__file__).parents[3]

LAUNCHER = """
cluster_name: c
max_workers: 5
head_node_type: head
available_node_types:
  head: {resources: {CPU: 4}, node_config: {}}
  small: {resources: {CPU: 8}, max_workers: 3, node_config: {}}
  large: {resources: {CPU: 64, GPU: 8}, max_workers: 9, node_config: {}}
"""

KUBERAY = """
kind: PersistentVolumeClaim
spec: {resources: {requests: {storage: 1Gi}}}
---
kind: RayJob
spec:
  rayClusterSpec:
    workerGroupSpecs:
      - groupName: a
        maxReplicas: 4
        rayStartParams: {}
        template: {spec: {containers: [{resources: {limits: {cpu: 3500m, nvidia.com/gpu: "2"}}}]}}
      - groupName: b
        maxReplicas: 1
        rayStartParams: {num-cpus: "6", num-gpus: "0"}
        template: {spec: {containers: [{resources: {limits: {cpu: "8"}}}]}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def test_nodes_of_a_launchers_file_are_bounded_by_the_cluster(tmp_path: Path) -> None:
    assert potential_nodes(written(tmp_path, LAUNCHER)) == (Node(8, 0, 3), Node(64, 8, 5))


def test_nodes_of_kuberays_groups(tmp_path: Path) -> None:
    assert potential_nodes(written(tmp_path, KUBERAY)) == (Node(3.5, 2, 4), Node(6, 0, 1))


def test_the_files_that_ship_are_read() -> None:
    assert potential_nodes(ROOT / "cluster.yaml") == (Node(4, 1, 8),)
    assert potential_nodes(ROOT / "deploy/kuberay.yaml") == (Node(4, 1, 8),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read: while parsing"),
        ("name: demo", "must be a file for `ray up` (available_node_types) or a RayCluster or RayJob of KubeRay"),
        (
            LAUNCHER.replace("{resources: {CPU: 8}, ", "{"),
            "does not give the resources of its nodes: KeyError: 'resources'",
        ),
        (
            KUBERAY.replace("        maxReplicas: 4\n", ""),
            "does not give the resources of its nodes: KeyError: 'maxReplicas'",
        ),
    ],
)
def test_a_file_that_does_not_say_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        potential_nodes(path)
    assert str(caught.value).startswith(f"--cluster: {path} {said}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        potential_nodes(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("needs", "now", "later"),
    [
        ({"workers": 2, "cpus_per_worker": 2}, 2, 2),
        # Workers are on one node each: two nodes of three CPUs have room for one worker of two each, not for three.
        ({"workers": 3, "cpus_per_worker": 2}, 1, 1),
        ({"workers": 1, "gpus_per_worker": 4}, 0, 4),
        ({"workers": 8, "gpus_per_worker": 2}, 0, 1),
        ({"workers": 1, "gpus_per_worker": 16}, 0, 0),
    ],
)
def test_what_fits_now_and_what_could(needs: dict[str, int], now: int, later: int) -> None:
    capacity = Capacity(
        (Node(3, 0), Node(3, 0), Node(5, 0)), "there", (Node(64, 8, 2),) if "gpus_per_worker" in needs else ()
    )
    resources = Resources(**needs)
    assert capacity.now(resources) == now
    assert capacity.concurrency(resources) == later
