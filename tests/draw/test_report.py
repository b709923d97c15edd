"""The report: one file that needs nothing else, says everything it was given, and escapes all of it."""

import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from xmodal_jax.draw import report
from xmodal_jax.draw.pictures import data_uri, pieces
from xmodal_jax.draw.report import Bar, Candidate, Condition, Figure, Sample, Table

IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
EVIL = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects the text outside style and what the page refers to."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.ids, self.words = [], [], [], set(), []
        self.feed(markup)
        self.close()
        assert not self.open, self.open
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.links.append(value)
            if name == "id":
                self.ids.add(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def samples():
    text = "아이가 배를 들고 있다"
    weights = np.random.default_rng(1).random(16)
    conditions = [
        Condition("right image", [0.9, 0.1], IMAGE, "배/과일", weights),
        Condition("swapped image", [0.7, 0.3], IMAGE, "배/선박"),
        Condition("no image", [float("nan")]),
    ]
    sense = {"text": text, "spans": [(4, 5)], "lang": "ko", "senses": ("배/과일", "배/선박"), "conditions": conditions}
    return [
        Sample("sense", IMAGE, truth="배", answer="배/과일", correct=True, heat=[("배", weights)], **sense),
        Sample("sense", IMAGE, truth="배", answer="배/선박", correct=np.bool_(False), glosses={"배/과일": EVIL}, **sense),
        Sample("masked_word", IMAGE, "a child holds a bat", [(16, 19)], "bat", "bat", True,
               candidates=[Candidate("bat", 0.8, True), Candidate("ball", float("nan")), Candidate("hat", None)]),
        Sample("caption", IMAGE, answer=EVIL, references=["ولد يحمل كرة", "一个孩子"],
               assignment=np.full((3, 16), 1 / 16), relation=np.eye(3)),
        Sample("answer", IMAGE, question="What colour?", answer="red\x00\x07", references=["blue"], correct=False),
        Sample("retrieval", text="a ship", correct=True, candidates=[Candidate("image 3", 11.5, True, IMAGE)]),
    ]  # fmt: skip


def contents():
    return {
        "title": f"Run {EVIL}",
        "summary": [
            Figure("Right image", "97.2 %", "of held-out scenes", ">= 95 %", True),
            ("Swapped", 0.881, "follows the other picture", ">= 0.9", np.bool_(False)),
            ("CIDEr", float("nan"), ""),
        ],
        "results": {"sense/right_image": 0.972, "sense/no_image": 0.5, "sense/chance": 0.5, "bleu": float("nan"),
                 "cider": None, "parameters": 1234567},
        "metrics": [{"step": i, "train/loss": 1 / (i + 1), "eval/x": float("nan")} for i in range(30)],
        "config": {"model": {"width": 64}, "이름": EVIL, "odd": np.float32},
        "samples": samples(),
        "tables": [Table("Ablation", ("training", "right"), [("none", 0.8), ("both", 0.95), ("배", None), ("short",)],
                      "three seeds", {1: "max"})],
        "notes": [EVIL],
    }  # fmt: skip


@pytest.fixture(scope="module")
def markup():
    return report.render_report(**contents())


def test_the_page_is_well_formed_and_needs_nothing_else(markup):
    page = Page(markup)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    for link in page.links:
        assert link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")), link[:60]
        if link.startswith("#"):
            assert link[1:] in page.ids, link
    assert "@import" not in markup and not re.search(r"url\((?!#)", markup)
    assert "prefers-color-scheme: dark" in markup and 'name="viewport"' in markup


def test_everything_given_is_there_and_escaped(markup):
    text = Page(markup).text
    assert text.count(EVIL) >= 5  # title (twice), note, gloss, caption
    assert "<script" not in markup
    for words in (
        "97.2 %", "of held-out scenes", "follows the other picture", "met", "missed", "What colour?", "red\u2400\u2407",
        "ولد يحمل كرة", "一个孩子", "배/선박", "three seeds", "1 234 567", "loss", "11.5", "follows the image",
        "does not follow", "no image given", "50.0 %", '"width": 64', '"이름"',
    ):  # fmt: skip
        assert words in text, words


def test_the_masked_word_is_a_blank(markup):
    assert re.search(r'아이가 <span class="blank"[^>]*></span>를 들고 있다', markup)
    assert 'dir="auto"' in markup and 'lang="ko"' in markup


def test_failures_come_first_and_all_are_shown(markup):
    section = markup[markup.index('<section id="sense">') :]
    assert section.index("<h3>Wrong</h3>") < section.index("<h3>Right</h3>")
    few = report.render_report(title="t", samples=samples()[:1] * 5 + samples()[1:2] * 4, most_samples=3)
    assert few.count("<article>") == 6 and "3 of 4 wrong, 3 of 5 right" in few


def test_the_best_of_a_column_is_marked(markup):
    assert re.findall(r'class="number best"[^>]*>([^<]*)<', markup) == ["0.95"]


def test_an_empty_report():
    page = Page(report.render_report(title="t", summary=[], results={}, metrics=[], config={}, samples=[], tables=[]))
    assert "No metrics were recorded." in page.text and "No samples were drawn." in page.text


def test_ablation_bars_may_be_given_or_found_in_the_results():
    given = report.render_report(title="t", ablation={"Emoji": [Bar("right image", 0.9, 1 / 3, "배", ">= 95 %")]})
    assert all(words in Page(given).text for words in ("Emoji", "33.3 %", "90.0 %", ">= 95 %"))
    found = report._ablation_of({"eval/sense/right_image": 0.9, "eval/sense/swapped_image": 0.8, "x/no_image": 0.1})
    assert [(b.label, b.value, b.chance) for b in found.pop("eval/sense")] == [
        ("right image", 0.9, None),
        ("swapped image", 0.8, None),
    ]
    assert not found


def test_a_picture_that_cannot_be_drawn_does_not_take_the_page_with_it():
    bad = Sample("caption", np.zeros((4, 4)), answer="x", heat=[("a", np.ones(5))])
    assert "not drawn" in Page(report.render_report(title="t", samples=[bad])).text


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="masked_word"):
        report.render_report(title="t", samples=[Sample("senses")])


def test_writing_replaces_the_file_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    report.write_report(path, title="first")
    report.write_report(path, title="second \ud800 half a character")
    assert "second" in path.read_text(encoding="utf-8") and os.listdir(path.parent) == ["report.html"]
    assert path.stat().st_mode & 0o044 == 0o044 & ~_umask()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(path, title="third")
    assert "second" in path.read_text(encoding="utf-8") and os.listdir(path.parent) == ["report.html"]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_pieces_of_a_text_join_to_the_text():
    text = "abc 배를 def"
    for spans in ([], [(4, 5)], [(0, 3), (2, 6)], [(-5, 1)], [(8, 99)], [(3, 3)], [(6, 9), (0, 2)]):
        assert "".join(p for p, _ in pieces(text, spans)) == text
    assert pieces(text, [(4, 5)]) == [("abc ", False), ("배", True), ("를 def", False)]
    assert pieces("", [(0, 3)]) == []


def test_large_pictures_are_shrunk_and_small_ones_kept():
    assert len(data_uri(np.zeros((3000, 10, 3), np.uint8))) < 10_000
    assert data_uri(np.zeros((1, 1, 3), np.uint8)).startswith("data:image/png")
