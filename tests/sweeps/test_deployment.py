"""The files that bring a cluster up: Ray's launcher, KubeRay, SLURM, and the commands that the docs give for them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import typer.main
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps.cli import command
from sweeps.execution.autoscaler import potential_nodes
from sweeps.spec.load import load

ROOT = Path(__file__).parents[2]
LAUNCHER = ["cluster.yaml", "deploy/on-premises.yaml"]
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").glob("*.sh"))
WITH_COMMANDS = [
    *LAUNCHER,
    *SCRIPTS,
    "deploy/kuberay.yaml",
    "deploy/skypilot.yaml",
    "docs/cluster.md",
    "docs/security.md",
]
STORAGE = "/srv/linsweep"


def launcher_file(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return values


def manifests() -> dict[str, dict[str, Any]]:
    """The resources of deploy/kuberay.yaml by kind."""
    return {item["kind"]: item for item in yaml.safe_load_all((ROOT / "deploy/kuberay.yaml").read_text())}


def locked(package: str, lock: str = "requirements.lock") -> str:
    found = re.search(rf"^{re.escape(package)}==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    assert found, f"{package} is not in {lock}"
    return found.group(1)


def commands(config: dict[str, Any]) -> dict[str, list[str]]:
    return {name: lines for name, lines in config.items() if name.endswith("_commands")}


# Ray's launcher


@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_own_check_takes_the_file(name: str) -> None:
    config = prepare_config(launcher_file(name))
    # `ray up` fills it from the defaults of the provider, which of "local" lie in another place.
    config.setdefault("cluster_synced_files", [])
    validate_config(config)


@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_own_check_refuses_a_key_that_it_does_not_know(name: str) -> None:
    config = prepare_config(launcher_file(name) | {"head_start_commands": []})
    config.setdefault("cluster_synced_files", [])
    with pytest.raises(jsonschema.ValidationError, match="head_start_commands"):
        validate_config(config)


def test_the_types_may_grow_to_what_the_whole_may() -> None:
    config = prepare_config(launcher_file("cluster.yaml"))
    types = config["available_node_types"]
    assert sum(kind["max_workers"] for kind in types.values()) == config["max_workers"] > 0
    assert types[config["head_node_type"]]["max_workers"] == 0
    assert all(kind["min_workers"] == 0 for kind in types.values())


def test_gpu_nodes_are_spot_instances_and_the_head_is_not() -> None:
    types = launcher_file("cluster.yaml")["available_node_types"]
    spot = {name: "InstanceMarketOptions" in kind["node_config"] for name, kind in types.items()}
    assert spot == {"head": False, "gpu_spot": True}
    assert types["gpu_spot"]["resources"]["GPU"] > 0
    # Nothing is scheduled on the head, and it has nothing that a trial could be given.
    assert types["head"]["resources"] == {"CPU": 0}
    options = types["gpu_spot"]["node_config"]["InstanceMarketOptions"]
    # The only behaviour after which Ray sees the node gone and asks for another.
    assert options["SpotOptions"]["InstanceInterruptionBehavior"] == "terminate"


def test_on_premises_has_as_many_workers_as_addresses() -> None:
    raw = launcher_file("deploy/on-premises.yaml")
    (kind,) = prepare_config(raw)["available_node_types"].values()
    count = len(raw["provider"]["worker_ips"])
    assert kind["min_workers"] == kind["max_workers"] == raw["min_workers"] == raw["max_workers"] == count


@pytest.mark.parametrize("name", LAUNCHER)
def test_nothing_is_left_to_fill_in_but_what_the_file_says(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"<[A-Za-z_ -]+>|\{\{|TODO|FIXME|CHANGEME|xxx|ami-0", text)
    # `ray up` copies these: a file that is not there fails it halfway.
    local = [path for path in launcher_file(name)["file_mounts"].values() if not path.startswith("~")]
    assert [path for path in local if not (ROOT / path).exists()] == []
    assert {"linearizer_core", "sweeps", "analysis", "linsweep", "requirements.lock"} <= set(local)


@pytest.mark.parametrize("name", LAUNCHER)
def test_a_cluster_asks_for_the_token_and_shows_nothing_outside(name: str) -> None:
    raw = launcher_file(name)
    lines = commands(raw)
    assert any(path.endswith("/.ray/auth_token") for path in raw["file_mounts"])
    assert any("export RAY_AUTH_MODE=token" in line for line in lines["setup_commands"])
    (start,) = [line for line in lines["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in start
    assert "0.0.0.0" not in " ".join(line for part in lines.values() for line in part).replace("10.0.0.0", "")


@pytest.mark.parametrize("name", LAUNCHER)
def test_every_command_is_one_that_a_shell_reads(name: str) -> None:
    for part in commands(launcher_file(name)).values():
        for line in part:
            subprocess.run(["bash", "-n", "-c", line], check=True)


def test_all_nodes_see_the_storage_before_ray_starts_on_them() -> None:
    lines = commands(launcher_file("cluster.yaml"))
    (mount,) = [i for i, line in enumerate(lines["worker_start_ray_commands"]) if f":{STORAGE}" in line]
    (start,) = [i for i, line in enumerate(lines["worker_start_ray_commands"]) if "ray start" in line]
    assert mount < start
    assert any(f"{STORAGE} $network(" in line for line in lines["head_setup_commands"])
    assert f"mountpoint -q {STORAGE}" in commands(launcher_file("deploy/on-premises.yaml"))["setup_commands"]


def test_the_lock_has_what_the_autoscaler_needs_on_aws() -> None:
    assert re.search(r"^boto3==\S+ \\\n +--hash=sha256:", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


# KubeRay


def test_the_manifests_have_the_fields_of_their_kinds() -> None:
    schema = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())
    for item in manifests().values():
        jsonschema.validate(item, schema)
    assert set(manifests()) == {"PersistentVolumeClaim", "RayCluster", "RayJob"}
    broken = manifests()["RayCluster"]
    broken["spec"]["workerGroupSpec"] = broken["spec"].pop("workerGroupSpecs")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def clusters() -> list[dict[str, Any]]:
    found = manifests()
    return [found["RayCluster"]["spec"], found["RayJob"]["spec"]["rayClusterSpec"]]


def test_the_job_has_the_cluster_of_the_document_before_it() -> None:
    assert clusters()[0] == clusters()[1]


def test_ray_is_the_locked_one() -> None:
    assert [spec["rayVersion"] for spec in clusters()] == 2 * [locked("ray")] == 2 * [ray.__version__]


def test_the_image_is_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    image = f"linearizer-sweeps:{version.group(1)}"
    for spec in clusters():
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        assert {c["image"] for group in groups for c in group["template"]["spec"]["containers"]} == {image}
    assert image in (ROOT / "deploy/Dockerfile").read_text()
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert [name for names in copied for name in names.split() if not (ROOT / name).exists()] == []


def test_every_pod_has_the_storage_that_many_may_write() -> None:
    claim = manifests()["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for spec in clusters():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            names = {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName") for v in pod["volumes"]}
            (container,) = pod["containers"]
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) <= set(names)
            assert [mounts[name] for name, of in names.items() if of == claim["metadata"]["name"]] == [STORAGE]
            assert container["resources"]["requests"] == container["resources"]["limits"]


def test_gpu_pods_grow_from_none_and_go_where_spot_nodes_are() -> None:
    for spec in clusters():
        assert spec["enableInTreeAutoscaling"]
        assert spec["authOptions"] == {"mode": "token"}
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        (group,) = spec["workerGroupSpecs"]
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        pod = group["template"]["spec"]
        assert pod["nodeSelector"].items() <= {t["key"]: t.get("value") for t in pod["tolerations"]}.items()
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_job_asks_for_what_its_cluster_can_have_and_a_head_that_is_lost_does_not_end_it() -> None:
    job = manifests()["RayJob"]["spec"]
    assert job["backoffLimit"] > 0
    words = shlex.split(job["entrypoint"])
    file = ROOT / words[words.index("--cluster") + 1].partition("linearizer-sweeps/")[2]
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert [node.count for node in potential_nodes(file)] == [group["maxReplicas"]]
    assert f"storage={STORAGE}/runs" in words


# SkyPilot


def sky_task() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "deploy/skypilot.yaml").read_text())
    return values


def test_skypilots_own_check_takes_the_task() -> None:
    sky = pytest.importorskip("sky", reason="skypilot is not among the locked packages: pip install skypilot")
    schemas = pytest.importorskip("sky.utils.schemas")
    jsonschema.validate(sky_task(), schemas.get_task_schema())
    jsonschema.validate(sky_task()["resources"], schemas.get_resources_schema())
    wrong = {**sky_task(), "resource": {}}
    with pytest.raises(jsonschema.ValidationError, match="resource"):
        jsonschema.validate(wrong, schemas.get_task_schema())
    given = [("STORAGE", "s3://bucket/runs"), ("DATA", "s3://bucket/data")]
    task = sky.Task.from_yaml_config(
        sky_task() | {"file_mounts": None}, env_overrides=given, secrets_overrides=[("RAY_AUTH_TOKEN", "a")]
    )
    (resources,) = task.resources
    assert (task.num_nodes, resources.accelerators, resources.use_spot) == (4, {"L4": 1}, True)


def test_the_task_has_fields_that_skypilot_documents() -> None:
    schema = json.loads((Path(__file__).parent / "skypilot.schema.json").read_text())
    jsonschema.validate(sky_task(), schema)
    for wrong in ({"resource": {}}, {"num_nodes": "4"}, {"resources": {"accelerator": "L4:1"}}, {"setup": ["make"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(sky_task() | wrong, schema)


def test_nodes_of_skypilot_get_the_wheel_of_this_version_and_no_checkout() -> None:
    task = sky_task()
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"--no-deps dist/linearizer_sweeps-{version.group(1)}-py3-none-any.whl" in task["setup"]
    assert "workdir" not in task
    assert set(task["file_mounts"].values()) == {"requirements.lock", "dist"}
    # Without values in the file: each has to be given, and the token is no part of it.
    assert set(task["envs"].values()) == set(task["secrets"].values()) == {None}
    assert 'storage="$STORAGE"' in task["run"]
    # SkyPilot's own Ray on each node would be ended, or hold the port.
    assert "ray stop" not in re.sub(r"#.*", "", task["run"])
    assert not {"6380", "8266"} & set(re.findall(r"\d{4,}", task["run"]))


@pytest.mark.parametrize("part", ["setup", "run"])
def test_skypilots_commands_are_such_that_a_shell_reads(part: str, tmp_path: Path) -> None:
    script = tmp_path / f"{part}.sh"
    script.write_text(f"#!/usr/bin/env bash\n{sky_task()[part]}")
    subprocess.run(["bash", "-n", str(script)], check=True)
    if shutil.which("shellcheck") is not None:
        done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


# Commands


def command_lines(name: str) -> Iterator[list[str]]:
    """The words of every ``linsweep …`` of a file: of fenced blocks and of code spans, if it is Markdown."""
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        spans = re.findall(r"`(linsweep [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        text = "\n".join([*blocks, *spans])
    elif name.endswith(".yaml"):
        # Folded scalars are one line each.
        text = "\n".join(scalar for item in yaml.safe_load_all(text) for scalar in scalars(item))
    else:
        text = re.sub(r"`(linsweep [^`]+)`.*", r"\1", text)
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        for found in re.findall(r"(?<![\w/.-])linsweep (?=[a-z])(.*)", line):
            lexer = shlex.shlex(found, posix=True, punctuation_chars=";&|()<>")
            lexer.whitespace_split = True
            words = []
            for word in lexer:
                if set(word) <= set(";&|()<>"):
                    break
                words.append(word)
            yield words


def scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list):
        for part in value:
            yield from scalars(part)
    elif isinstance(value, str):
        yield value


def parse(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words; raises its usage error."""
    group = typer.main.get_command(command.app)
    with group.make_context("linsweep", list(words)) as context:
        name, chosen, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
        parsed: dict[str, Any] = chosen.make_context(name, rest, parent=context).params
        return parsed


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_linsweep_command_is_one_that_there_is(name: str) -> None:
    known = typer.main.get_command(command.app).commands  # type: ignore[attr-defined]
    for words in command_lines(name):
        assert words[0] in known
        # A command's name alone is one that the text speaks of.
        if len(words) > 1:
            parse(words)


def test_commands_are_found_and_wrong_ones_are_not_taken() -> None:
    found = {name: list(command_lines(name)) for name in WITH_COMMANDS}
    assert ["launch", "$@", "--address", "$address"] in found["deploy/slurm.sh"]
    assert {words[0] for words in found["docs/cluster.md"]} >= {
        "launch",
        "plan",
        "resume",
        "supervise",
        "status",
        "stop",
    }
    assert found["deploy/kuberay.yaml"]
    with pytest.raises(Exception, match="No such option"):
        parse(["launch", "quickstart", "--adress", "auto"])


def test_the_jobs_sweep_is_one_that_loads(data_root: Path) -> None:
    for words in command_lines("deploy/kuberay.yaml"):
        parsed = parse(words)
        sweep = load(parsed["spec"], [*parsed["set_"], f"data.root={data_root}"], parsed["profile"])
        assert sweep.folder == Path(STORAGE, "runs", sweep.name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable_and_a_shell_reads_them(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_slurm_without_a_spec_says_how_it_is_used() -> None:
    done = subprocess.run([ROOT / "deploy/slurm.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: sbatch ")


def test_the_ports_of_slurm_jobs_are_outside_those_that_ray_gives_workers_and_the_system_hands_out() -> None:
    text = (ROOT / "deploy/slurm.sh").read_text()
    (formula,) = re.findall(r"^port=\$\(\((.+)\)\)$", text, re.MULTILINE)
    assert re.fullmatch(r"[\d +*%]+", formula.replace("SLURM_JOB_ID", "0"))
    script = f'for SLURM_JOB_ID in 1 2 4999 5000 123456789; do echo "$(({formula}))"; done'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    ports = [int(line) for line in done.stdout.split()]
    assert all(port >= 20000 and port + 1 < 32768 for port in ports)
    # Each job has two, and neighbours do not share them.
    assert ports[1] - ports[0] == 2
