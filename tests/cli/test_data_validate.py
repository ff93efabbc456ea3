"""The command and its card."""

import json
import re

import pytest
from rlds_writer import write_rlds

from farsighted_jax.cli.main import main


def put_nan(split, episode, steps):
    if (split, episode) == ("train", 2):
        steps[1]["action"][1] = float("nan")


def test_the_command_prints_what_to_mend_and_writes_a_card(tmp_path, capsys):
    sizes = {"width": 3, "state_width": 2, "depth": "png", "wrist": True}
    write_rlds(tmp_path, **sizes, edit=put_nan, lengths={"train": (9,) * 5})
    card = tmp_path / "out" / "card.html"
    assert main(["data", "validate", str(tmp_path), "--out", str(card)]) == 1
    said = capsys.readouterr().out
    assert "error: NaN: tiny:train, episode 2: " in said and "dimension 1 (a1) is nan" in said
    assert "    to mend: repair or drop the episode" in said and f"card: {card}" in said
    assert re.search(r"^tiny: \d error\(s\), \d warning\(s\), \d note\(s\)$", said, re.MULTILINE)
    text = card.read_text(encoding="utf-8")
    # Self-contained: nothing is loaded, all pictures are inside.
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', text) and "<script" not in text
    # Lengths; two pictures of each of two cameras, and histograms of actions and states.
    assert text.count("<img") == 1 + 2 * 2 + 2
    for words in ("What to mend", "dimension 1 (a1) is nan", "task 0", "translation", "std of ln m"):
        assert words in text
    assert re.search(r"<th scope=\"row\">gripper</th><td>gripper</td><td>1</td><td>absolute</td>", text)


def test_json_and_several_datasets(tmp_path, capsys):
    write_rlds(tmp_path, "one", lengths={"train": (30,)}, shards=1)
    write_rlds(tmp_path, "two", lengths={"train": (30,), "val": (30,)}, shards=1)
    main(["data", "validate", str(tmp_path), "--json", "--split", "train", "--episodes", "0"])
    one, two = json.loads(capsys.readouterr().out)
    assert (one["dataset"], two["dataset"]) == ("one", "two") and list(two["splits"]) == ["train"]
    assert two["splits"]["train"]["action"]["a0"]["count"] == 30
    assert two["splits"]["train"]["action_groups"]["translation"]["count"] == 180
    assert {"severity", "check", "place", "found", "mend"} == set(two["findings"][0])


def test_a_dataset_that_cannot_be_opened_has_a_card_too(tmp_path, capsys):
    folder = write_rlds(tmp_path, spec=False)
    assert main(["data", "validate", str(folder), "--out", str(tmp_path / "card.html")]) == 1
    assert "has no specification" in capsys.readouterr().out
    assert "It could not be opened." in (tmp_path / "card.html").read_text()


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["data", "validate", "nowhere"], 1, "no dataset"),
        (["data", "validate", "nowhere", "--episodes", "-1"], 2, "--episodes is -1"),
        (["data", "valdate", "nowhere"], 2, "invalid choice"),
    ],
)
def test_mistakes(argv, status, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = main(argv)
    except SystemExit as exit:
        found = exit.code
    assert found == status and words in capsys.readouterr().err
