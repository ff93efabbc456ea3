"""The numbers of configs/README.md that can be computed are those of the code."""

import json
import re
from pathlib import Path

import pytest

from farsighted_jax.bench.flops import lam_flops
from farsighted_jax.core import config as config_lib
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.policy.model import VARIANTS as POLICY_VARIANTS

ROOT = Path(__file__).resolve().parents[1]


def rounded(flops):
    """GFLOP as the table writes them: two digits below ten, whole from there on."""
    giga = flops / 1e9
    return f"{giga:.2g}" if giga < 10 else f"{giga:,.0f}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table_of_variants_holds_what_the_code_counts(variant):
    reference = f"configs/lam_pretrain.py:{variant}"
    golden = json.loads((ROOT / "tests/golden/configs.json").read_text())[reference]
    config = config_lib.load(str(ROOT / reference))
    parts, sizes = lam_flops(config), VARIANTS[variant]
    label = f"`{variant}`" if config.data.resolution == 224 else f"`{variant}`, {config.data.resolution} px"
    expected = [
        label,
        sizes["width"],
        f"{sizes['encoder_depth']} + {sizes['decoder_depth']}",
        sizes["num_heads"],
        f"{golden['trainable_params']:,}",
        f"{golden['frozen_params']:,}",
        rounded(parts["encoder"].step + parts["decoder"].step),
        *(rounded(parts[name].step) if name in parts else "0" for name in ("frozen_encoder", "lpips")),
    ]
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(map(str, expected))} |" in text.splitlines()


@pytest.mark.parametrize("variant", POLICY_VARIANTS)
def test_the_table_of_policies_holds_what_the_code_counts(variant):
    golden = json.loads((ROOT / "tests/golden/configs.json").read_text())
    pretrain, finetune = (golden[f"configs/policy_{name}.py:{variant}"] for name in ("pretrain", "finetune"))
    sizes = POLICY_VARIANTS[variant]
    expected = [
        f"`{variant}`, 64 px" if variant == "tiny" else f"`{variant}`",
        sizes["width"],
        f"{sizes['depth']}, {sizes['head_depth']}",
        sizes["num_heads"],
        *(f"{run['trainable_params']:,}" for run in (pretrain, finetune)),
        f"{finetune['frozen_params']:,}",
    ]
    assert pretrain["frozen_params"] == finetune["frozen_params"]
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(map(str, expected))} |" in text.splitlines()


def test_every_file_stands_in_the_first_table_and_every_key_exists():
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "configs").glob("*.py"):
        assert f"| `{path.name}" in text
    files = ("configs/lam_pretrain.py", "configs/policy_pretrain.py")
    known = {key for file in files for key in config_lib.flatten(config_lib.load(str(ROOT / file)))}
    named = re.findall(r"`((?:data|model|optimizer|loss|gate|eval|plan|flow)\.\w+)`", text)
    assert len(named) >= 5 and set(named) <= known
