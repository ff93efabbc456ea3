"""Configurations: a Python file with `get_config(arg)`, checked overrides, JSON.

`configs/x.py:arg` names a file and the argument for its `get_config`. A config
is one locked ConfigDict of at most two levels with literal values. Overrides
are `key=value` with dotted keys; the value keeps the type of the default (a
default of None has none to keep).
"""

from __future__ import annotations

import ast
import difflib
import json
import runpy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

# Keys of run folders that were written before they got another name.
RENAMED = {"init_from": "init"}

# What a run did before its folder had the key, by a section that only such runs have: policies, latent
# action models.
UNNAMED = {
    "flow": {
        "flow.draws": 1,
        "model.num_keypoints": 0,
        "model.vision_queries": "learned",
        "data.text_features": "",
        "data.text_choice": "first",
        "data.text_dropout": 0.0,
    },
    "quantizer": {"data.image_features": ""},
}

# What `model.remat` was called before it had names; a latent action model's run folder had no such key.
REMAT = {True: "full", False: "none"}


class ConfigError(ValueError):
    """A configuration or an override is wrong; the message names the key. Exit status 2."""


def load(reference: str, overrides: Iterable[str] = ()) -> ml_collections.ConfigDict:
    """Reads `path.py[:arg]` and applies overrides `a.b=value` in order.

    Raises:
      ConfigError: no such file, no `get_config`, an argument it does not know,
        an unknown key (with the nearest valid one) or a value of the wrong type.
    """
    path, _, argument = reference.partition(":")
    namespace = names_of(path)
    if "get_config" not in namespace:
        raise ConfigError(f"{path!r} defines no get_config(arg)")
    try:
        config = namespace["get_config"](argument or None)
    except KeyError as error:
        raise ConfigError(f"{path!r} does not know the argument {argument!r}: {error}") from error
    config.lock()
    for assignment in overrides:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(f"override {assignment!r} is not of the form key=value")
        assign(config, key, text)
    return config


def names_of(path: str) -> dict[str, Any]:
    """What a configuration file defines, by name; ConfigError if there is no such file."""
    if not Path(path).is_file():
        raise ConfigError(f"no configuration file {path!r} (from the folder {str(Path.cwd())!r})")
    return runpy.run_path(path)


def assign(config: ml_collections.ConfigDict, key: str, text: str) -> None:
    """Sets the dotted `key` from text; the value must have the type of the present one."""
    flat = flatten(config)
    if key not in flat:
        raise ConfigError(f"unknown configuration key {key!r}{nearest(key, flat)}")
    value = _parsed(key, text, flat[key])
    *parents, name = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    with node.ignore_type():
        node[name] = value


def change(config: ml_collections.ConfigDict, changes: Mapping[str, Any]) -> None:
    """Sets dotted keys to values, with the checks of `assign`."""
    for key, value in changes.items():
        assign(config, key, value if isinstance(value, str) else repr(value))


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of a config, or of its JSON form."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            flat.update({f"{name}.{key}": leaf for key, leaf in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def to_json(config: ml_collections.ConfigDict) -> str:
    """The resolved configuration as indented JSON with sorted keys."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> ml_collections.ConfigDict:
    """Inverse of `to_json`: locked, lists become tuples, keys since renamed or added are there."""
    values = {RENAMED.get(key, key): value for key, value in json.loads(text).items()}
    for kind in UNNAMED.keys() & values.keys():
        for key, value in UNNAMED[kind].items():
            section, name = key.split(".")
            values[section].setdefault(name, value)
    if "flow" in values or "quantizer" in values:
        found = values["model"].get("remat", False)
        values["model"]["remat"] = REMAT.get(found, found)
    config = ml_collections.ConfigDict(_tuples(values))
    config.lock()
    return config


def difference(first: Mapping[str, Any], second: Mapping[str, Any], ignore: Iterable[str] = ()) -> list[str]:
    """One line for each dotted key whose value differs, e.g. "seed: 0 -> 1"."""
    before, after = _jsonable(flatten(first)), _jsonable(flatten(second))
    skipped = set(ignore)
    lines = []
    for key in sorted(before.keys() | after.keys()):
        if key not in skipped and before.get(key, "absent") != after.get(key, "absent"):
            lines.append(f"{key}: {before.get(key, 'absent')!r} -> {after.get(key, 'absent')!r}")
    return lines


def check_range(key: str, value: float, low: float = -float("inf"), high: float = float("inf")) -> None:
    """Raises ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"configuration key {key!r}: {value!r} is not within [{low}, {high}]")


def check_choice(key: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises ConfigError unless the value is one of the choices."""
    choices = list(choices)
    if value not in choices:
        hint = nearest(str(value), map(str, choices))
        raise ConfigError(f"configuration key {key!r}: {value!r} is not one of {choices}{hint}")


def _parsed(key, text, default):
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if default is None:
        return value
    if isinstance(default, tuple | list):
        return _parsed_tuple(key, value, default)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not type(default):
        raise ConfigError(
            f"configuration key {key!r}: {text!r} is not of type {type(default).__name__} "
            f"like the default {default!r}"
        )
    return value


def _parsed_tuple(key, value, default):
    if not isinstance(value, tuple | list):
        value = (value,)
    kinds = {type(item) for item in default}
    if kinds == {float}:
        value = tuple(float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in value)
    if kinds and {type(item) for item in value} - kinds:
        raise ConfigError(
            f"configuration key {key!r}: {value!r} holds other types than the default {default!r}"
        )
    return tuple(value)


def nearest(key: str, known: Iterable[str]) -> str:
    """A hint that ends a message: the known name most like `key`, or "" if none is."""
    known = list(known)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        tails = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [tails[tail] for tail in difflib.get_close_matches(key.rsplit(".", 1)[-1], list(tails), n=1)]
    return f"; did you mean {near[0]!r}?" if near else ""


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _jsonable(flat):
    return {key: json.loads(json.dumps(value)) for key, value in flat.items()}
