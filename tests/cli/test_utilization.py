import pytest
from source_tree import ROOT

from farsighted_jax.bench.devices import peak_flops
from farsighted_jax.cli.train import main
from farsighted_jax.cli.utilization import utilization_metrics

CARD = "NVIDIA H100 80GB HBM3"
FLOPS = {"trained": 8 * 10**12, "frozen": 10**12, "perceptual": 2 * 10**12}


def measured(kind, dtype="bfloat16"):
    return utilization_metrics(FLOPS, dtype, kind, 4)(1, None, {"train/samples_per_s": 50.0})


def test_utilisation_is_counted_flops_over_the_peak_of_all_devices():
    found = measured(CARD)
    assert found["train/tflop_per_s"] == 50 * 11
    assert found["train/mfu"] == pytest.approx(50 * 11e12 / (4 * peak_flops(CARD)), rel=1e-3)
    parts = [found[f"train/mfu_{name}"] for name in FLOPS]
    assert sum(parts) == pytest.approx(found["train/mfu"], abs=2e-5)
    assert parts[0] / parts[1] == pytest.approx(8, rel=1e-2)


def test_without_a_peak_or_in_float32_there_is_the_count_alone():
    assert measured("cpu").keys() == {"train/tflop_per_s"}
    assert measured(CARD, "float32").keys() == {"train/tflop_per_s"}


@pytest.mark.parametrize("steps", ["3", "0:4", "5:4", "a:b"])
def test_steps_to_profile_that_are_none_end_with_status_2(steps, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(ROOT / "configs/smoke.py"), "--workdir", "w", "--profile-steps", steps])
    assert ended.value.code == 2 and "FIRST:LAST" in capsys.readouterr().err
