"""The command that prints known datasets and mixtures."""

import json

import pytest

from data_pipelines.oxe.mixtures import MIXTURES
from data_pipelines.oxe.registry import BLOCKS
from farsighted_jax.cli.main import main


def test_one_line_a_dataset(capsys):
    assert main(["data", "registry"]) == 0
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["dataset", "embodiment", "cameras", "action", "Hz", "mixtures"]
    assert len(lines) == len(BLOCKS) >= 85 and last == f"{len(BLOCKS)} datasets"
    (droid,) = (line for line in lines if line.startswith("droid "))
    assert "Franka" in droid and "primary secondary wrist" in droid and "  15  " in droid
    assert "x y z (1 change), roll pitch yaw (1 change rpy), gripper; base" in droid
    assert droid.endswith("oxe_magic_soup_plus lam")
    (people,) = (line for line in lines if line.startswith("ego4d_split_1 "))
    assert "  none  " in people


def test_all_of_one_dataset_and_of_the_mixtures(capsys):
    assert main(["data", "registry", "maniskill_dataset_converted_externally_to_rlds"]) == 0
    said = capsys.readouterr().out
    assert "primary: observation/image observation/depth" in said and "finger_0" in said
    assert "action: positions; stored 1 is open, -1 closed" in said
    assert "commands of -1 to 1 stand for 0.1 m" in said and "depth: TFDS catalogue" in said
    assert main(["data", "registry", "--mixtures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {mixture["mixture"]: mixture["weights"] for mixture in found} == {
        name: dict(mixture.weights) for name, mixture in MIXTURES.items()
    }
    assert main(["data", "registry", "--mixtures"]) == 0
    assert "  0.06     droid (optional)" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    "argv, status, words",
    [(["driod"], 1, "did you mean 'droid'"), (["droid", "--mixtures"], 2, "expected no dataset")],
)
def test_wrong_use(argv, status, words, capsys):
    try:
        found = main(["data", "registry", *argv])
    except SystemExit as stop:
        found = stop.code
    assert found == status and words in capsys.readouterr().err
