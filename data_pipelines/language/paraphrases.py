"""Ways to say what an episode shows, and which of them a sample is told."""

from __future__ import annotations

from typing import Any

from data_pipelines.split import AnyEpisode
from farsighted_jax.core.spec import DatasetSpec


def ways_to_say(episode: AnyEpisode, spec: DatasetSpec) -> tuple[bytes, ...]:
    """Instructions of an episode, each once, the usual one first; () without any.

    Args:
      episode: of a split.
      spec: of its dataset; `paraphrases` names a feature of the episode that holds more.

    Raises:
      RecordError: that feature cannot be read.
    """
    more: Any = episode.metadata.get(spec.paraphrases, ()) if spec.paraphrases else ()
    more = (more,) if isinstance(more, bytes | str) else more
    texts = [
        *episode.instructions,
        *(text.encode() if isinstance(text, str) else bytes(text) for text in more),
    ]
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


def chosen(ways: tuple[bytes, ...], share: float) -> bytes:
    """The way that lies at `share`, within [0, 1), of them all; b"" of none."""
    return ways[int(share * len(ways))] if ways else b""
