"""Checks of whole episodes: damage, NaN, length, instructions, duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from data_pipelines.checks.finding import ERROR, NOTE, WARNING, Finding
from data_pipelines.checks.survey import SeenEpisode, Survey
from data_pipelines.errors import NonFiniteError, RecordError

MAX_LISTED = 5
LONG_TEXT = 1000
FEW_EPISODES = 20


def check_damage(survey: Survey) -> Iterator[Finding]:
    """Records that cannot be read, and actions or states that are NaN or Inf."""
    kinds = (
        ("damage", [f for f in survey.failures if not isinstance(f[1], NonFiniteError)]),
        ("NaN", [f for f in survey.failures if isinstance(f[1], NonFiniteError)]),
    )
    mends = {
        "damage": "copy or write the file anew, or leave the episode out with --config.data.on_corrupt=skip",
        "NaN": "repair or drop the episode where the dataset is written, or --config.data.on_corrupt=skip",
    }
    for check, failures in kinds:
        for number, error in failures[:MAX_LISTED]:
            yield survey.finding(ERROR, check, str(error), mends[check], number)
        if len(failures) > MAX_LISTED:
            found = f"{len(failures) - MAX_LISTED} further like these, of {len(survey.asked)} episodes"
            yield survey.finding(ERROR, check, found, mends[check])


def check_lengths(survey: Survey) -> Iterator[Finding]:
    """Episodes that give no window, and a split of which only a part was read."""
    lengths = [episode.num_steps for episode in survey.episodes]
    for steps, text in ((0, "without a step"), (1, "of a single step")):
        if count := lengths.count(steps):
            number = survey.episodes[lengths.index(steps)].number
            found = f"{count} of {len(lengths)} episodes {text}, the first is {number}; they give no window"
            yield survey.finding(WARNING, "counts", found, "leave them out where the dataset is written")
    if lengths and not sum(lengths):
        yield survey.finding(ERROR, "counts", "no episode has a step", "write the dataset anew")
    if len(survey.asked) < survey.split.num_episodes:
        found = f"looked at {len(survey.asked)} of {survey.split.num_episodes} episodes, evenly spread"
        yield survey.finding(NOTE, "counts", found, "--episodes 0 looks at all")


def check_language(survey: Survey) -> Iterator[Finding]:
    """How many episodes have an instruction, and whether it is a usable text."""
    texts = {episode.number: episode.instruction for episode in survey.episodes if episode.num_steps}
    if not texts:
        return
    missing = [number for number, text in texts.items() if not text.strip()]
    if len(missing) == len(texts):
        known = bool(survey.spec.language_key)
        mend = "" if known else "name the feature in language_key; beside a video, write a .txt of its name"
        yield survey.finding(NOTE, "language", "no episode has an instruction", mend)
        return
    if missing:
        found = f"{len(missing)} of {len(texts)} episodes have no instruction, e.g. {missing[:MAX_LISTED]}"
        yield survey.finding(WARNING, "language", found, "add them, or know that a policy learns without")
    for number, text in texts.items():
        if _decoded(text) is None:
            found = f"the instruction is no UTF-8: {text[:40]!r}"
            yield survey.finding(ERROR, "language", found, "write it as UTF-8", number)
            break
    longest = max(texts, key=lambda number: len(texts[number]))
    if len(texts[longest]) > LONG_TEXT:
        found = f"an instruction of {len(texts[longest])} bytes; what exceeds data.text_length tokens is cut"
        yield survey.finding(WARNING, "language", found, "shorten it", longest)
    if len(texts) >= FEW_EPISODES and len(set(texts.values())) == 1:
        found = f"all {len(texts)} episodes have the same instruction {next(iter(texts.values()))[:60]!r}"
        yield survey.finding(NOTE, "language", found)


def check_duplicates(surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Episodes that are the same bit for bit, within a split or in two of them."""
    alike: dict[str, list[tuple[Survey, SeenEpisode]]] = defaultdict(list)
    for survey in surveys:
        for episode in survey.episodes:
            if episode.num_steps:
                alike[_digest(survey, episode)].append((survey, episode))
    # Still actions may be the same in episodes that differ: pictures decide, where numbers agree.
    confirmed = defaultdict(list)
    for digest, group in alike.items():
        for survey, episode in group if len(group) > 1 else ():
            confirmed[digest + _picture_digest(survey, episode)].append((survey, episode))
    groups = [group for group in confirmed.values() if len(group) > 1]
    for group in groups[:MAX_LISTED]:
        (first, episode), *others = group
        places = ", ".join(f"{survey.place} {other.number}" for survey, other in others[:MAX_LISTED])
        leak = len({survey.split.split for survey, _ in group}) > 1
        found = f"the same episode as {places}" + ("; held-out data are trained on" if leak else "")
        mend = "keep one of them" + (", in one split" if leak else "")
        yield first.finding(ERROR if leak else WARNING, "duplicates", found, mend, episode.number)
    if len(groups) > MAX_LISTED:
        found = f"{len(groups) - MAX_LISTED} further groups of equal episodes"
        yield surveys[0].finding(WARNING, "duplicates", found, "keep one of each")


def text_kinds(survey: Survey) -> Counter[str]:
    """Episodes whose instruction is "present", "missing" or "not_utf8" (which is present too)."""
    kinds = Counter()
    for episode in survey.episodes:
        kinds["present" if episode.instruction.strip() else "missing"] += 1
        kinds["not_utf8"] += _decoded(episode.instruction) is None
    return kinds


def _decoded(text):
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _digest(survey, episode):
    arrays = [array for array in (episode.actions, episode.states) if array is not None]
    digest = hashlib.sha256(str(episode.num_steps).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _picture_digest(survey, episode):
    source = survey.split.episode(episode.number)
    digest = hashlib.sha256()
    for step in {0, episode.num_steps // 2, episode.num_steps - 1}:
        try:
            image_HWC = source.rgb(step, survey.spec.cameras[0].name)
        except RecordError as error:
            # What cannot be read equals nothing.
            return str(error)
        digest.update(np.ascontiguousarray(image_HWC).tobytes())
    return digest.hexdigest()
