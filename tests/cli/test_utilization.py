import pytest
from source_tree import ROOT

from farsighted_jax.bench.devices import peak_flops
from farsighted_jax.bench.flops import lam_flops
from farsighted_jax.cli.train import main
from farsighted_jax.cli.utilization import flops_per_sample, utilization_metrics
from farsighted_jax.core import config as config_lib

CARD = "NVIDIA H100 80GB HBM3"


def configuration(name="lam_pretrain.py:base", **changes):
    config = config_lib.load(str(ROOT / "configs" / name))
    config_lib.change(config, {key.replace("__", "."): value for key, value in changes.items()})
    return config


def measured(config, kind, num_devices=4):
    return utilization_metrics(config, kind, num_devices)(1, None, {"train/samples_per_s": 50.0})


def test_utilisation_is_counted_flops_over_the_peak_of_all_devices():
    config = configuration()
    counted = lam_flops(config)
    assert config.model.dtype == "bfloat16" and {"frozen_encoder", "lpips"} <= counted.keys()
    found = measured(config, CARD)
    total = 50.0 * sum(part.step for part in counted.values())
    assert found["train/mfu"] == pytest.approx(total / (4 * peak_flops(CARD)), rel=1e-3)
    assert found["train/tflop_per_s"] == pytest.approx(total / 1e12, rel=1e-4)
    parts = [found[f"train/mfu_{name}"] for name in ("trained", "frozen", "perceptual")]
    assert sum(parts) == pytest.approx(found["train/mfu"], abs=2e-5)
    assert parts[1] / parts[2] == pytest.approx(
        counted["frozen_encoder"].step / counted["lpips"].step, rel=1e-2
    )


def test_without_a_peak_or_in_float32_there_is_the_count_alone():
    assert measured(configuration(), "cpu").keys() == {"train/tflop_per_s"}
    assert measured(configuration(model__dtype="float32"), CARD).keys() == {"train/tflop_per_s"}


def test_what_is_not_counted_has_no_figure():
    assert utilization_metrics(configuration(optimizer__freeze=("^encoder/",)), CARD, 1) is None
    assert flops_per_sample(configuration("policy_pretrain.py:tiny")) == {}


@pytest.mark.parametrize("steps", ["3", "0:4", "5:4", "a:b"])
def test_steps_to_profile_that_are_none_end_with_status_2(steps, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(ROOT / "configs/smoke.py"), "--workdir", "w", "--profile-steps", steps])
    assert ended.value.code == 2 and "FIRST:LAST" in capsys.readouterr().err
