import sys

import jax
import pytest

from farsighted_jax.plan.topology import PlanError, devices, topology
from farsighted_jax.sharding.mesh import make_mesh


@pytest.mark.parametrize(
    ("name", "slices", "chips", "simulated"),
    [("v5e:16x16", 1, 256, False), ("v5p:4x4x4", 2, 128, False), ("h100:8", 2, 16, True)],
)
def test_names_count_chips(name, slices, chips, simulated):
    found = topology(name, slices)
    assert found.num_chips == chips and found.simulated == simulated


@pytest.mark.parametrize(
    ("name", "slices", "words"),
    [
        ("v9x:4x4", 1, "'v9x:4x4' is unknown; expected CHIP:SHAPE"),
        ("v5e", 1, "such as v5e:16x16"),
        ("v5e:4x", 1, "is unknown"),
        ("h100:16", 1, "a node has 1 to 8 chips; h100:8 --slices N"),
        ("v5e:4x4", 0, "0 slices"),
    ],
)
def test_an_unknown_topology_says_what_is_known(name, slices, words):
    with pytest.raises(PlanError, match=words):
        topology(name, slices)


def test_gpus_are_simulated_and_too_few_of_them_are_an_error():
    # jax has started by then, as in any test that comes after another.
    simulated = jax.devices()
    assert devices(topology("h100:4")) == simulated[:4]
    with pytest.raises(PlanError, match="16 simulated devices are needed, but jax has started with 8"):
        devices(topology("h100:8", 2))


def test_without_libtpu_its_name_is_in_the_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(ModuleNotFoundError) as error:
        devices(topology("v5e:2x2"))
    assert error.value.name == "libtpu"


@pytest.mark.parametrize(("name", "slices"), [("v6e:16x16", 1), ("v5p:4x4x4", 1), ("v5p:4x4x4", 2)])
def test_an_axis_may_be_a_part_of_a_side(name, slices):
    pytest.importorskip("libtpu")
    mesh = make_mesh({"data": -1, "fsdp": 8, "tensor": 1}, devices(topology(name, slices)))
    assert mesh.shape["data"] == topology(name, slices).num_chips // 8


def test_a_shape_that_no_slice_has_is_an_error():
    pytest.importorskip("libtpu")
    with pytest.raises(PlanError, match="'v5e:7x3'.*libtpu says"):
        devices(topology("v5e:7x3"))
