import json
import os
import stat
import sys

import pytest
from packaging.requirements import Requirement
from source_tree import ROOT

from farsighted_jax.cli import doctor, installation

WORKING = {
    "host": {"python": "3.11.0", "os": "Linux", "cpu_cores": 2, "memory_gb": 8.0},
    "packages": [{"name": "jax", "bounds": "<0.12,>=0.10", "version": "0.10.2", "ok": True}],
    "devices": {
        "found": [{"platform": "cpu", "kind": "cpu"}],
        "error": "",
        "accelerators": [],
        "import_errors": {},
    },
    "extras": [{"name": "serve", "missing": ["websockets"], "command": "pip install it"}],
    "storage": {"cache": "c", "cache_error": "", "cwd": "here", "cwd_free_gb": 50.0},
}


@pytest.fixture
def facts(monkeypatch):
    """Replaces what is found out about the machine; returns what to change in it."""
    found = json.loads(json.dumps(WORKING))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for name in ("host", "packages", "extras", "storage"):
        monkeypatch.setattr(installation, name, lambda name=name: found[name])
    monkeypatch.setattr(installation, "devices", lambda timeout_s: found["devices"])
    return found


def test_a_working_core_exits_with_zero(facts, capsys):
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "The core works." in text
    assert "lacks websockets; run: pip install it" in text


def test_json_is_one_object_with_the_verdict(facts, capsys):
    assert doctor.main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True and found["problems"] == found["advice"] == []
    assert found["packages"] == WORKING["packages"]


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        (
            "packages",
            [{"name": "jax", "bounds": "<0.12", "version": "0.13", "ok": False}],
            ["jax is 0.13", "jax<0.12"],
        ),
        (
            "packages",
            [{"name": "flax", "bounds": "", "version": None, "ok": False}],
            ["flax is absent", "pip install"],
        ),
        ("packages", [], ["not installed", "pip install -e ."]),
        ("devices", {"error": "no answer within 1 s"}, ["jax devices: no answer within 1 s"]),
        ("devices", {"import_errors": {"cv2": "ImportError: libGL"}}, ["importing cv2 fails", "libGL"]),
        ("storage", {"cache_error": "PermissionError: no"}, ["PermissionError", "FARSIGHTED_CACHE"]),
    ],
)
def test_a_broken_core_exits_with_one_and_says_why(facts, capsys, section, change, words):
    if isinstance(change, list):
        facts[section] = change
    else:
        facts[section].update(change)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "The core does not work." in text
    problem = next(line for line in text.splitlines() if line.startswith("PROBLEM"))
    for word in words:
        assert word in problem


def test_an_unused_gpu_gets_the_command(facts):
    facts["devices"]["accelerators"] = ["NVIDIA GPU (X)"]
    found = doctor.report()
    assert found["ok"]
    assert any("NVIDIA GPU (X)" in line and "'.[cuda13]'" in line for line in found["advice"])


def test_a_gpu_that_was_switched_off_is_no_fault_of_the_installation(facts, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    facts["devices"]["accelerators"] = ["NVIDIA GPU (X)"]
    assert ["JAX_PLATFORMS=cpu" in line for line in doctor.report()["advice"]] == [True]


def test_a_used_gpu_and_a_full_disk(facts):
    facts["devices"] |= {"accelerators": ["NVIDIA GPU (X)"], "found": [{"platform": "gpu", "kind": "X"}]}
    assert doctor.report()["advice"] == []
    facts["storage"]["cwd_free_gb"] = 0.2
    assert ["0.2 GB free" in line for line in doctor.report()["advice"]] == [True]


def test_a_version_out_of_bounds_is_seen(monkeypatch):
    lines = [
        "numpy>=2",
        "jax<0.5",
        "absent-thing>=1",
        'pytest>=1; extra == "dev"',
        'tqdm; python_version < "3"',
    ]
    monkeypatch.setattr(installation, "_requirements", lambda: [Requirement(line) for line in lines])
    found = {entry["name"]: entry["ok"] for entry in installation.packages()}
    assert found == {"numpy": True, "jax": False, "absent-thing": False}


def test_a_stuck_device_is_reported_in_bounded_time(monkeypatch):
    monkeypatch.setattr(installation, "_PROBE_DEVICES", "import time; time.sleep(60)")
    monkeypatch.setattr(installation, "_PROBE_IMPORTS", "print('{}')")
    found = installation.devices(timeout_s=0.5)
    assert found["found"] == [] and "no answer within 0.5 s" in found["error"]


def test_a_device_error_is_its_last_line(monkeypatch):
    monkeypatch.setattr(installation, "_PROBE_DEVICES", "raise RuntimeError('no driver')")
    monkeypatch.setattr(installation, "_PROBE_IMPORTS", "print('{}')")
    assert installation.devices(timeout_s=30)["error"] == "RuntimeError: no driver"


def test_a_module_that_does_not_import_is_named(monkeypatch):
    monkeypatch.setattr(installation, "_PROBE_DEVICES", "print('[]')")
    monkeypatch.setattr(installation, "CORE_MODULES", ["json", "no_such_module_anywhere"])
    errors = installation.devices(timeout_s=30)["import_errors"]
    assert list(errors) == ["no_such_module_anywhere"]
    assert "ModuleNotFoundError" in errors["no_such_module_anywhere"]


def test_gpus_are_listed_without_jax(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'Card A\\nCard B\\n'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert installation.accelerators()[:2] == ["NVIDIA GPU (Card A)", "NVIDIA GPU (Card B)"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert not any("NVIDIA" in name for name in installation.accelerators())


def test_the_cache_folder_is_where_the_reader_puts_it(tmp_path, monkeypatch):
    from data_pipelines import cache

    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "c"))
    assert cache.cache_path("gs://bucket/toy", "index").is_relative_to(installation.cache_folder())
    monkeypatch.delenv("FARSIGHTED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache.cache_path("gs://bucket/toy", "index").is_relative_to(installation.cache_folder())
    assert installation.storage()["cache_error"] == ""


def test_a_cache_folder_that_is_a_file_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "file"))
    assert "Error" in installation.storage()["cache_error"]


def test_extras_are_those_of_setup():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    for name in installation.EXTRAS:
        assert f'"{name}": ' in text


def test_host_is_this_machine():
    found = installation.host()
    assert found["executable"] == sys.executable
    assert found["cpu_cores"] >= 1 and found["memory_gb"] > 0


@pytest.mark.slow
def test_doctor_on_this_machine():
    found = doctor.report()
    assert found["devices"]["error"] == "" and found["devices"]["import_errors"] == {}
    assert found["devices"]["found"]
