import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core import batch as batch_lib
from farsighted_jax.core import dims
from farsighted_jax.core.batch import FIELDS, BatchError

SIZES = {
    "B": 2, "T": 4, "t": 3, "H": 5, "W": 6, "J": 7, "M": 8, "I": 9, "L": 10, "R": 11, "P": 12, "Z": 13,
    "E": 14, "N": 15,
}  # fmt: skip


def example(names=FIELDS):
    arrays = {}
    for name in names:
        shape = [int(a) if a.isdigit() else SIZES[a] for a in FIELDS[name].axes]
        arrays[name] = np.ones(shape, FIELDS[name].dtype)
    return arrays


def message(batch, **options):
    with pytest.raises(BatchError) as caught:
        batch_lib.check(batch, **options)
    return str(caught.value)


def test_a_complete_batch_passes_and_gives_its_sizes():
    assert {k: v for k, v in batch_lib.check(example(), values=True).items() if not k.isdigit()} == SIZES


def test_required_fields_are_enough():
    batch_lib.check(example([name for name, field in FIELDS.items() if field.required]), values=True)


def test_device_arrays_pass():
    batch_lib.check({name: jnp.asarray(array) for name, array in example().items()}, values=True)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.required])
def test_a_missing_required_field_is_named(name):
    batch = example()
    del batch[name]
    assert f"'{name}'" in message(batch)


@pytest.mark.parametrize("name", list(FIELDS))
def test_a_wrong_dtype_is_named(name):
    batch = example()
    batch[name] = batch[name].astype(np.float64)
    assert all(word in message(batch) for word in (repr(name), "float64", FIELDS[name].dtype))


@pytest.mark.parametrize("name", list(FIELDS))
def test_a_wrong_rank_is_named(name):
    batch = example()
    batch[name] = batch[name][..., None]
    assert repr(name) in message(batch)
    assert FIELDS[name].axes in message(batch)


@pytest.mark.parametrize(("name", "axis"), [(n, a) for n, f in FIELDS.items() for a in range(len(f.axes))])
def test_a_wrong_size_is_refused(name, axis):
    batch = example()
    wrong = np.concatenate([batch[name], batch[name]], axis=axis)
    # The reported field may be the one it disagrees with, where that one is checked later.
    batch[name] = wrong
    alone = sum(FIELDS[name].axes[axis] in field.axes for field in FIELDS.values()) == 1
    if alone and not FIELDS[name].axes[axis].isdigit():
        batch_lib.check(batch)
    else:
        assert str(wrong.shape) in message(batch) or repr(name) in message(batch)


def test_a_size_conflict_names_both_fields():
    batch = example()
    batch["time_s"] = batch["time_s"][:, :3]
    text = message(batch)
    assert "'time_s'" in text and "'rgb'" in text and "expected 4" in text


def test_transitions_are_one_fewer_than_frames():
    batch = example()
    for name in [name for name, field in FIELDS.items() if field.axes[1:2] == "t"]:
        batch[name] = np.concatenate([batch[name], batch[name]], axis=1)
    text = message(batch)
    assert "'action_sum'" in text and "T - 1 = 3" in text


def test_an_unknown_field_is_named():
    assert "'colour'" in message({**example(), "colour": np.zeros(2)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.dtype == "float32"])
def test_a_value_that_is_no_number_is_named_with_its_place(name, value):
    batch = example()
    place = tuple(size - 1 for size in batch[name].shape)
    batch[name][place] = value
    batch_lib.check(batch)
    text = message(batch, values=True)
    assert repr(name) in text and str(place) in text


def test_every_axis_has_a_letter():
    for name, field in FIELDS.items():
        for letter in field.axes:
            assert letter.isdigit() or letter in dims.LETTERS, name


def test_a_transition_needs_both_its_frames():
    frame_valid_BT = np.random.default_rng(0).random((64, 5)) < 0.7
    found_Bt = batch_lib.transition_valid(frame_valid_BT)
    for b in range(64):
        for k in range(1, 5):
            assert found_Bt[b, k - 1] == (frame_valid_BT[b, 0] and frame_valid_BT[b, k])
