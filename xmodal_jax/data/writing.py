"""Texts that are written from another text and a picture: what each kind gives to read, and what to write.

"caption": from nothing, the caption. "prefix": from any number of its first words, the rest of it (SimVLM, Wang et al., 2022).
"denoise": from it with runs of words put down to a mask token each, all of it (XGPT, Xia et al., 2020). Those of VL-T5 (Cho et
al., 2021), each behind its own prompt: "spans", the runs that are missing, a mask token before each; "answer", to a question;
"match", whether the text is the picture's; "region", what is in a region; "ground", the number of the region that a name means.
"""

from xmodal_jax.data.word_masks import chosen_words

KINDS = ("none", "caption", "prefix", "denoise", "spans", "answer", "match", "region", "ground")
PROMPTS = {
    "spans": "span prediction :", "answer": "vqa :", "match": "image text match :", "region": "caption region :",
    "ground": "visual grounding :",
}  # fmt: skip
MASKING = {"denoise": 0.3, "spans": 0.15}  # shares of the words that are missing
SAID = {True: "true", False: "false"}


def vocabulary(kinds, regions):
    """Texts whose words a tokeniser needs beside those of the captions."""
    more = [PROMPTS[kind] for kind in kinds if kind in PROMPTS]
    if "match" in kinds:
        more += SAID.values()
    if {"region", "ground"} & {*kinds}:
        more += [numbered(number) for number in range(regions)]
    return tuple(more)


def numbered(number):
    """The word for a region."""
    return f"region_{number}"


def split(ids, rng):
    """ "prefix"."""
    place = int(rng.integers(max(1, len(ids))))
    return ids[:place], ids[place:]


def missing(ids, kind, mask, rng):
    """ "denoise" and "spans" of ids, with the id of the mask token."""
    if not ids:
        return [], []
    count = max(1, round(MASKING[kind] * len(ids)))
    gone = chosen_words([[place] for place in range(len(ids))], "span", count, len(ids), rng)
    source, spans = [], []
    for place, one in enumerate(ids):
        starts = place in gone and place - 1 not in gone
        source += [mask] if starts else [] if place in gone else [one]
        spans += [mask] * starts + [one] * (place in gone)
    return source, ids if kind == "denoise" else spans
