"""The scripts of launch/, run against commands that only write down how they were called."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT

SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "launch").rglob("*.sh"))

# Writes its name and arguments to $CALLS. What `describe` says of the pod and how `ssh` and `srun` end
# stands in files below $ANSWERS, a line a call.
FAKE = """#!/usr/bin/env bash
{ printf '%s' "${0##*/}"; printf '\\t%s' "$@"; printf '\\n'; } >> "$CALLS"
next() { head -n 1 "$ANSWERS/$1" 2>/dev/null; sed -i 1d "$ANSWERS/$1" 2>/dev/null; }
case "${0##*/} $*" in
  *describe*) next states ;;
  *" ssh "*) exit "$(next ssh || echo 0)" ;;
  srun*) exit "$(next srun || echo 0)" ;;
  kubectl*"-f -") cat > "$ANSWERS/applied" ;;
esac
exit 0
"""
POD = {
    "PROJECT": "my-project", "ZONE": "my-zone", "NAME": "pod", "TPU_TYPE": "v5litepod-64",
    "RUNTIME": "runtime", "REPOSITORY": "https://example.org/it.git", "POLL_SECONDS": "0",
}  # fmt: skip
PLACE = ["--project", "my-project", "--zone", "my-zone"]
JOBSET = {
    "NAME": "run", "IMAGE": "registry/it:1", "CLAIM": "disk", "HOSTS": "16", "CHIPS": "4",
    "ACCELERATOR": "kind", "TOPOLOGY": "8x8", "FARSIGHTED_PYTHON": sys.executable,
}  # fmt: skip


class Machine:
    """Runs a script where gcloud, kubectl, srun, scontrol and docker are fakes."""

    def __init__(self, folder):
        self._folder, self._answers = folder, folder / "answers"
        self._answers.mkdir()
        for name in ("gcloud", "kubectl", "srun", "scontrol", "docker"):
            (folder / name).write_text(FAKE)
            (folder / name).chmod(0o755)

    def answer(self, name, *lines):
        (self._answers / name).write_text("".join(f"{line}\n" for line in lines))

    def run(self, script, *arguments, **environment):
        known = {
            "PATH": f"{self._folder}:{os.environ['PATH']}", "CALLS": str(self._folder / "calls"),
            "ANSWERS": str(self._answers), "HOME": str(self._folder),
        }  # fmt: skip
        return subprocess.run(
            ["bash", str(ROOT / "launch" / script), *arguments],
            env=known | environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    @property
    def calls(self):
        """Every call as its words; calls of `describe` left out."""
        path = self._folder / "calls"
        found = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
        return [words for words in found if "describe" not in words]

    def read(self, name):
        return (self._answers / name).read_text()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def script_of(words):
    """What a worker runs, where it is `bash -c SCRIPT`; otherwise its first words."""
    return shlex.split(words[words.index("--command") + 1])[2]


def actions(machine):
    """What was done to the pod, in order: create, delete, or ssh with what it was for."""
    found = []
    for words in machine.calls:
        if "ssh" in words:
            found.append("setup" if "git clone" in script_of(words) else "run")
        else:
            found.append(words[4])
    return found


def test_a_spot_pod_is_asked_for_and_waited_for(machine):
    machine.answer("states", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    done = machine.run("tpu/pod.sh", "create", **POD, SPOT="1")
    assert done.returncode == 0, done.stderr
    head = "gcloud compute tpus queued-resources create pod --node-id pod".split()
    kind = "--accelerator-type v5litepod-64 --runtime-version runtime --spot".split()
    assert machine.calls == [[*head, *kind, *PLACE]]
    machine.answer("states", "FAILED")
    assert machine.run("tpu/pod.sh", "create", **POD).returncode == 1
    assert "--spot" not in machine.calls[1]


def test_the_command_reaches_every_worker_quoted(machine):
    done = machine.run(
        "tpu/pod.sh", "run", "train", "--config.data.dir=a b", "--workdir", "/shared/run", **POD
    )
    assert done.returncode == 0, done.stderr
    (words,) = machine.calls
    assert (
        words[:7] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--worker"] and words[7] == "all"
    )
    command = words[words.index("--command") + 1]
    shown = subprocess.run(
        ["bash", "-c", command.partition(" && ")[2].replace(".venv/bin/farsighted", "printf '[%s]'")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == "[train][--config.data.dir=a b][--workdir][/shared/run][--coordinator][auto]"


def test_setup_installs_the_revision_for_tpus(machine):
    assert machine.run("tpu/pod.sh", "setup", **POD, REVISION="v1", MOUNT="mount it").returncode == 0
    command = script_of(machine.calls[0])
    assert subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False).returncode == 0
    for part in ("FARSIGHTED_JAX_VARIANT=tpu", "environment.sh", "gcs,plot", "v1", "mount"):
        assert part in command.replace("\\", "")


def test_a_pod_that_is_taken_away_is_replaced_and_the_command_run_again(machine):
    machine.answer("states", "", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "ACTIVE")
    machine.answer("ssh", 0, 255, 0, 0)
    done = machine.run("tpu/pod.sh", "keep", "train", **POD, SPOT="1")
    assert done.returncode == 0, done.stderr
    assert actions(machine) == ["create", "setup", "run", "delete", "create", "setup", "run"]
    assert machine.calls[3] == [
        *"gcloud compute tpus queued-resources delete pod --force --quiet".split(), *PLACE
    ]  # fmt: skip


def test_a_command_that_fails_on_its_own_is_not_repeated(machine):
    machine.answer("states", "ACTIVE", "ACTIVE")
    machine.answer("ssh", 0, 1)
    done = machine.run("tpu/pod.sh", "keep", "train", **POD)
    assert done.returncode == 2 and "failed on a pod that is still there" in done.stderr
    assert actions(machine) == ["setup", "run"]


def test_what_is_missing_is_named_and_a_dry_run_changes_nothing(machine):
    done = machine.run("tpu/pod.sh", "create", ZONE="my-zone")
    assert done.returncode == 2 and "set PROJECT NAME" in done.stderr
    assert machine.run("tpu/pod.sh", "creat", **POD).returncode == 2
    dry = machine.run("tpu/pod.sh", "create", **POD, DRY_RUN="1")
    assert dry.returncode == 0 and "queued-resources create pod" in dry.stdout and not machine.calls


@pytest.mark.parametrize("status, requeued", [(0, False), (1, False), (143, True)])
def test_a_slurm_job_that_saved_goes_back_into_the_queue(machine, tmp_path, status, requeued):
    machine.answer("srun", status)
    done = machine.run(
        "slurm/train.sh", "train", "--x", "a b", SLURM_SUBMIT_DIR=str(tmp_path), SLURM_JOB_ID="77"
    )
    assert done.returncode == status
    assert machine.calls[0] == ["srun", "--kill-on-bad-exit=0", ".venv/bin/farsighted", "train", "--x", "a b"]
    assert machine.calls[1:] == ([["scontrol", "requeue", "77"]] if requeued else [])


def pod_of(text):
    """The document, its one job and the pod of it."""
    document = yaml.safe_load(text)
    (job,) = document["spec"]["replicatedJobs"]
    return document, job, job["template"]["spec"]["template"]["spec"]


def test_the_jobset_of_tpu_slices(machine):
    command = ("train", "--config.data.dir=/shared/a b", '--config.x="$y"')
    done = machine.run("gke/jobset.sh", "print", "tpu", *command, **JOBSET, SLICES="2", SPOT="true")
    assert done.returncode == 0, done.stderr
    document, job, pod = pod_of(done.stdout)
    assert document["kind"] == "JobSet" and document["metadata"]["name"] == "run"
    assert job["replicas"] == 2 and document["spec"]["failurePolicy"] == {"maxRestarts": 100}
    assert {job["template"]["spec"][name] for name in ("parallelism", "completions")} == {16}
    (container,) = pod["containers"]
    assert container["args"] == list(command) and container["image"] == "registry/it:1"
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "8x8"
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}
    assert pod["terminationGracePeriodSeconds"] == 300 and 'gke-spot, operator: "Exists"' in done.stdout


def test_the_jobset_of_gpu_nodes_tells_each_process_who_it_is(machine):
    done = machine.run("gke/jobset.sh", "print", "gpu", "train", **JOBSET)
    _, job, pod = pod_of(done.stdout)
    (container,) = pod["containers"]
    assert job["replicas"] == 1 and container["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert container["args"] == [
        "train", "--coordinator", "run-node-0-0.run:8482", "--num-processes", "16",
        "--process-id", "$(PROCESS_ID)",
    ]  # fmt: skip
    assert container["env"][0]["name"] == "PROCESS_ID" and "DoesNotExist" in done.stdout


def test_a_jobset_is_applied_whole_or_not_at_all(machine):
    done = machine.run("gke/jobset.sh", "apply", "tpu", "train", **JOBSET)
    assert done.returncode == 0, done.stderr
    assert machine.calls == [["kubectl", "apply", "-f", "-"]]
    assert pod_of(machine.read("applied"))[2]["containers"][0]["args"] == ["train"]
    for arguments, environment, message in (
        (("apply", "tpu", "train"), {**JOBSET, "IMAGE": ""}, "set IMAGE"),
        (("apply", "gpu", "train"), {k: v for k, v in JOBSET.items() if k != "CLAIM"}, "set CLAIM"),
        (("apply", "tpu"), JOBSET, "which command"),
        (("apply", "cpu", "train"), JOBSET, "unknown kind cpu"),
    ):
        done = machine.run("gke/jobset.sh", *arguments, **environment)
        assert done.returncode != 0 and message in done.stderr
    assert len(machine.calls) == 1


def test_the_image_of_each_device(machine):
    done = machine.run("docker/build.sh", "tpu", "registry/it:1", "--push")
    assert done.returncode == 0, done.stderr
    file = [
        "--file",
        str(ROOT / "launch/docker/Dockerfile"),
        "--build-arg",
        "JAX=tpu",
        "--tag",
        "registry/it:1",
    ]
    assert machine.calls == [["docker", "build", *file, str(ROOT)], ["docker", "push", "registry/it:1"]]
    assert machine.run("docker/build.sh", "rocm", "it").returncode == 2


def test_the_image_copies_what_exists_and_installs_known_extras():
    text = (ROOT / "launch/docker/Dockerfile").read_text()
    setup = (ROOT / "setup.py").read_text()
    extras = re.search(r"ARG EXTRAS=(\S+)", text)[1].split(",") + ["cuda12", "cuda13", "tpu"]
    assert all(f'"{extra}": ' in setup for extra in extras)
    allowed = (ROOT / "launch/docker/Dockerfile.dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists() and f"!{name}" in allowed


def test_no_project_zone_or_bucket_stands_in_a_script():
    places = re.compile(r"\b[a-z]+-[a-z]+\d-[a-z]\b|gs://\w|projects/\w")
    for path in (ROOT / "launch").rglob("*"):
        if path.is_file():
            assert not places.findall(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_has_nothing_to_say(script):
    beside = Path(sys.executable).parent / "shellcheck"
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck (extra `dev`)")
    done = subprocess.run([program, "-x", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
