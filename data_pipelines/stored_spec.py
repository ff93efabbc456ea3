"""dataset_spec.json: the meaning of a dataset's features, beside its data."""

from __future__ import annotations

import json
import os

from data_pipelines.dataset_info import read_text
from data_pipelines.errors import DatasetError
from data_pipelines.remote import path_of
from farsighted_jax.core import spec as spec_lib

SPEC = "dataset_spec.json"


def stored_spec(folder: str | os.PathLike) -> spec_lib.DatasetSpec | None:
    """The specification in a dataset's folder, or None; DatasetError if it is malformed."""
    path = path_of(folder) / SPEC
    if not path.exists():
        return None
    try:
        return spec_lib.dataset_spec(json.loads(read_text(os.fspath(folder), SPEC)))
    except (json.JSONDecodeError, spec_lib.SpecError, TypeError, AttributeError) as error:
        raise DatasetError(f"{os.fspath(path)}: no DatasetSpec: {error}") from error
