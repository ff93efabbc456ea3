import numpy as np
import pytest

from farsighted_jax.core.config import ConfigError
from farsighted_jax.train.schedules import warmup_cosine


def test_rises_to_the_peak_and_falls_to_the_end():
    rate = warmup_cosine(200, peak=1e-3, final=1e-5)
    values = np.array([rate(step) for step in range(201)])
    assert np.all(np.diff(values[:11]) > 0) and np.all(np.diff(values[11:200]) < 0)
    assert values[10] == pytest.approx(1e-3) and values[0] == pytest.approx(1e-3 / 11)
    assert values[199] == pytest.approx(1e-5) and values[200] == pytest.approx(1e-5)


def test_explicit_warmup_and_none():
    assert float(warmup_cosine(10, 1.0, 0.0, warmup_steps=0)(0)) == pytest.approx(1.0)
    assert float(warmup_cosine(10, 1.0, 0.0, warmup_steps=4)(4)) == pytest.approx(1.0)


@pytest.mark.parametrize("total, warmup", [(0, 0), (10, 11), (10, -2)])
def test_out_of_range_is_a_config_error(total, warmup):
    with pytest.raises(ConfigError, match="optimizer.warmup_steps"):
        warmup_cosine(total, 1.0, 0.0, warmup)
