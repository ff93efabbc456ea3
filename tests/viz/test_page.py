from html.parser import HTMLParser

import numpy as np
import pytest

from farsighted_jax.viz.metric_tables import (
    codebook_table,
    depth_table,
    motion_tables,
    probe_tables,
    reconstruction_table,
)
from farsighted_jax.viz.page import Picture, Section, Table, write_page
from farsighted_jax.viz.tiles import write_png

VOID = {"meta", "img", "br", "link"}


class Checked(HTMLParser):
    """Collects tags and text, and fails on tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(path):
    parser = Checked()
    parser.feed(path.read_text(encoding="utf-8"))
    assert not parser.open
    return parser


def test_page_escapes_all_text_and_is_self_contained(tmp_path):
    nasty = "<script>alert('x')</script> & \"quoted\""
    picture = write_png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    section = Section(
        nasty,
        nasty,
        [Table(nasty, ("name", nasty), [(nasty, nasty)])],
        [Picture(picture, nasty)],
        folded=nasty,
    )
    page = parsed(write_page(tmp_path / "new" / "page.html", nasty, [section], lead=nasty))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "a"}
    assert page.text.count(nasty) == 11
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 1 and images[0]["src"].startswith("data:image/png;base64,iVBOR")
    assert images[0]["alt"] == nasty
    source = (tmp_path / "new" / "page.html").read_text()
    assert "http" not in source and "url(" not in source and "@import" not in source


def test_page_refuses_what_is_no_png_and_ragged_tables(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match=r"a\.png.*neither a PNG nor a WebP"):
        write_page(tmp_path / "p.html", "t", [Section("s", pictures=[Picture(tmp_path / "a.png", "c")])])
    with pytest.raises(ValueError, match="'losses'.*expected 2"):
        write_page(tmp_path / "p.html", "t", [Section("s", tables=[Table("losses", ("a", "b"), [("1",)])])])


def test_reconstruction_table_shows_each_number_beside_its_baselines():
    result = {
        "num_samples": {"0.2": 7},
        "psnr": {"0.2": 21.234},
        "psnr_copy": {"0.2": 18.0},
        "psnr_shuffled": {"0.2": None},
        "psnr_over_copy": {"0.2": 3.234},
    }
    table = reconstruction_table(result)
    assert table.columns == (
        "horizon",
        "samples",
        "PSNR, dB",
        "copy frame 0",
        "shuffled codes",
        "over copy",
    )
    assert table.rows == [("0.2 s", "7", "21.23", "18.00", "n/a", "3.23")]
    assert depth_table(result) is None


def test_codebook_and_probe_tables():
    usage = {"num_samples": {"0.2": 7, "all": 7}, "usage": {"0.2": 0.5, "all": 0.5}}
    assert codebook_table(usage).rows == [("0.2 s", "7", "0.50"), ("all", "7", "0.50")]
    entry = {
        "protocol": "p",
        "num_score": {"0.2": 9},
        "num_score_episodes": {"0.2": 3},
        "r2": {"quantized": {"0.2": {"gripper": 0.5, "translation": None}}},
        "r2_interval": {"quantized": {"0.2": {"gripper": [0.1, 0.7], "translation": None}}},
    }
    (table,) = probe_tables({"toy": entry, "video": {"protocol": "no action"}})
    assert table.rows == [("quantized", "0.2 s", "0.50 [0.10, 0.70]", "n/a")]
    assert "9 windows of 3 episodes at 0.2 s" in table.caption


def test_motion_tables_show_what_was_evaluated():
    assert motion_tables({"codebook": {}}) == []
    result = {
        "controllability": {
            "num_samples": {"0.2": 7}, "delta_psnr": {"0.2": 3.0},
            "psnr": {"0.2": 20.0}, "psnr_random": {"0.2": 17.0},
        },
        "composition": {
            "num_samples": {"additivity": {"0.4": 6}, "reversal": {"0.2": 7}},
            "encoded": {
                "additivity_centred": {"0.4": 0.25}, "additivity_shuffled_centred": {"0.4": 2.0},
                "reversal_centred": {"0.2": None}, "unreversed_centred": {"0.2": 4.0},
            },
        },
        "transfer": {"toy": {"num_samples": {"0.2": 5}, "code_agreement": {"0.2": 0.75}}},
    }  # fmt: skip
    steered, additive, reversed_, moved = motion_tables(result)
    assert steered.rows == [("0.2 s", "7", "3.00", "20.00", "17.00")]
    assert additive.columns == ("horizon", "samples", "error", "shuffled")
    assert additive.rows == [("0.4 s", "6", "0.25", "2.00")]
    assert reversed_.rows == [("0.2 s", "7", "n/a", "4.00")]
    assert moved.rows == [("0.2 s", "5", "0.75")] and "toy" in moved.caption
