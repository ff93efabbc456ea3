import json

import ml_collections
import pytest

from farsighted_jax.core import config as config_lib
from farsighted_jax.core.config import ConfigError

SOURCE = """
import ml_collections

def get_config(arg=None):
    width = {"tiny": 8, "base": 768, None: 16}[arg]
    return ml_collections.ConfigDict({
        "seed": 0,
        "note": "",
        "resume": True,
        "limit": None,
        "model": {"width": width, "name": "lam", "dilations": (1, 2)},
        "optimizer": {"learning_rate": 1e-4, "betas": (0.9, 0.99), "freeze": ()},
    })
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(SOURCE)
    return str(file)


def test_the_argument_reaches_get_config(path):
    assert config_lib.load(path).model.width == 16
    assert config_lib.load(f"{path}:tiny").model.width == 8


def test_a_loaded_config_is_locked(path):
    with pytest.raises(AttributeError):
        config_lib.load(path).sed = 1


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("seed=-7", "seed", -7),
        ("seed=1e3", "seed", 1000),
        ("note=a=b", "note", "a=b"),
        ("note=12", "note", "12"),
        ("note=", "note", ""),
        ("resume=false", "resume", False),
        ("resume=False", "resume", False),
        ("model.width=32", "model.width", 32),
        ("model.dilations=(1,2,4)", "model.dilations", (1, 2, 4)),
        ("model.dilations=[1]", "model.dilations", (1,)),
        ("model.dilations=1,3", "model.dilations", (1, 3)),
        ("model.dilations=5", "model.dilations", (5,)),
        ("model.dilations=()", "model.dilations", ()),
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("optimizer.betas=(0.9, 1)", "optimizer.betas", (0.9, 1.0)),
        ("optimizer.freeze=encoder/.*", "optimizer.freeze", ("encoder/.*",)),
        ("optimizer.freeze=('a', 'b')", "optimizer.freeze", ("a", "b")),
    ],
)
def test_an_override_keeps_the_type_of_the_default(path, assignment, key, value):
    found = config_lib.flatten(config_lib.load(path, [assignment]))[key]
    assert found == value
    assert type(found) is type(value)


def test_an_override_changes_nothing_else(path):
    before, after = config_lib.load(path), config_lib.load(path, ["model.width=32"])
    assert config_lib.difference(before, after) == ["model.width: 16 -> 32"]


def test_the_last_override_wins(path):
    assert config_lib.load(path, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("model.widht=8", ["model.widht", "did you mean 'model.width'"]),
        ("modle.width=8", ["modle.width", "did you mean 'model.width'"]),
        ("learning_rate=1", ["learning_rate", "did you mean 'optimizer.learning_rate'"]),
        ("model=8", ["'model'"]),
        ("model.width.x=8", ["model.width.x"]),
        ("seed", ["'seed'", "key=value"]),
        ("seed=1.5", ["'seed'", "'1.5'", "int"]),
        ("seed=zero", ["'seed'", "'zero'", "int"]),
        ("seed=True", ["'seed'", "'True'", "int"]),
        ("seed=", ["'seed'", "int"]),
        ("resume=1", ["'resume'", "bool"]),
        ("optimizer.learning_rate=fast", ["optimizer.learning_rate", "'fast'", "float"]),
        ("optimizer.learning_rate=None", ["optimizer.learning_rate", "float"]),
        ("model.dilations=(1, 'a')", ["model.dilations"]),
        ("model.dilations=(1, 2.5)", ["model.dilations"]),
    ],
)
def test_a_wrong_override_names_its_key(path, assignment, words):
    with pytest.raises(ConfigError) as caught:
        config_lib.load(path, [assignment])
    for word in words:
        assert word in str(caught.value)


def test_a_key_unlike_any_other_gets_no_guess(path):
    with pytest.raises(ConfigError) as caught:
        config_lib.load(path, ["zzzzqq=1"])
    assert "did you mean" not in str(caught.value)


def test_a_failed_override_leaves_the_config_alone(path):
    config = config_lib.load(path)
    before = config_lib.to_json(config)
    with pytest.raises(ConfigError):
        config_lib.assign(config, "seed", "zero")
    assert config_lib.to_json(config) == before


def test_a_default_of_none_takes_any_literal(path):
    assert config_lib.load(path, ["limit=5"]).limit == 5
    assert config_lib.load(path, ["limit=None"]).limit is None
    assert config_lib.load(path, ["limit=auto"]).limit == "auto"


def test_a_text_is_never_run(path, tmp_path):
    canary = tmp_path / "canary"
    config_lib.load(path, [f"note=open({str(canary)!r}, 'w')"])
    with pytest.raises(ConfigError):
        config_lib.load(path, [f"seed=open({str(canary)!r}, 'w')"])
    assert not canary.exists()


@pytest.mark.parametrize(
    ("source", "argument", "words"),
    [
        ("x = 1", "", ["get_config"]),
        (SOURCE, ":huge", ["'huge'"]),
    ],
)
def test_a_file_that_cannot_serve_is_named(tmp_path, source, argument, words):
    file = tmp_path / "x.py"
    file.write_text(source)
    with pytest.raises(ConfigError) as caught:
        config_lib.load(f"{file}{argument}")
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file .*absent.py"):
        config_lib.load(str(tmp_path / "absent.py:tiny"))


def test_json_round_trip_keeps_values_and_types(path):
    config = config_lib.load(f"{path}:tiny", ["model.dilations=(1, 2, 4)"])
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.flatten(again) == config_lib.flatten(config)
    assert type(again.model.dilations) is tuple
    assert again.is_locked
    assert config_lib.to_json(again) == config_lib.to_json(config)


def test_an_older_policy_stays_what_it_was():
    older = {"init_from": "runs/w2", "flow": {"num_steps": 10}, "model": {"num_keypoints": 3}, "data": {}}
    config = config_lib.from_json(json.dumps(older))
    assert config.init == "runs/w2" and config.flow.draws == 1 and config.data.text_features == ""
    assert config.model.num_keypoints == 3 and config.model.vision_queries == "learned"
    assert "flow" not in config_lib.from_json(json.dumps({"model": {"variant": "tiny"}}))


def test_an_older_latent_action_model_stays_what_it_was():
    older = {"quantizer": {"name": "fsq"}, "data": {"dir": "data"}, "model": {}}
    data = config_lib.from_json(json.dumps(older)).data
    assert data.to_dict() == {"dir": "data", "image_features": ""}


@pytest.mark.parametrize("section", ["flow", "quantizer"])
@pytest.mark.parametrize(
    ("before", "after"), [(True, "full"), (False, "none"), ("dots", "dots"), (None, "none")]
)
def test_rematerialisation_of_older_runs_has_a_name(section, before, after):
    model = {} if before is None else {"remat": before}
    older = {section: {}, "model": model, "data": {}}
    assert config_lib.from_json(json.dumps(older)).model.remat == after


def test_json_does_not_depend_on_the_order_of_keys():
    first = ml_collections.ConfigDict({"a": 1, "b": {"c": 2, "d": 3}})
    second = ml_collections.ConfigDict({"b": {"d": 3, "c": 2}, "a": 1})
    assert config_lib.to_json(first) == config_lib.to_json(second)


def test_difference_is_empty_against_its_own_json(path):
    config = config_lib.load(path)
    assert config_lib.difference(config, json.loads(config_lib.to_json(config))) == []


def test_difference_names_changed_added_and_removed_keys():
    lines = config_lib.difference(
        {"a": 1, "m": {"x": 1, "y": (1, 2)}}, {"m": {"x": 2, "y": [1, 2]}, "z": None}
    )
    assert lines == ["a: 1 -> 'absent'", "m.x: 1 -> 2", "z: 'absent' -> None"]
    assert config_lib.difference({"a": 1, "b": 2}, {"a": 3, "b": 4}, ignore=["a"]) == ["b: 2 -> 4"]


def test_range_and_choice():
    config_lib.check_range("a.b", 1, 0, 1)
    with pytest.raises(ConfigError, match=r"'a\.b': 2 is not within \[0, 1\]"):
        config_lib.check_range("a.b", 2, 0, 1)
    with pytest.raises(ConfigError):
        config_lib.check_range("a.b", float("nan"), 0, 1)
    config_lib.check_choice("a", "ema", ("ema", "fsq"))
    with pytest.raises(ConfigError, match="did you mean 'gradient'"):
        config_lib.check_choice("a", "gradiant", ("ema", "gradient"))
