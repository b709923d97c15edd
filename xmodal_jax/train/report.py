"""What a finished run leaves behind: `results.json`, `samples.jsonl` and the self-contained `report.html`."""

import json
import os

import jax
from absl import logging

from xmodal_jax.draw.blocks import Bar, Figure
from xmodal_jax.draw.report import write_report
from xmodal_jax.files import replace_text
from xmodal_jax.train import progress

# metric -> (label, what it means, what it should be, whether a value is good)
HEADLINES = {
    "sense_accuracy/right_image": (
        "sense, right image",
        "the ambiguous word is read as what the picture shows",
        ">= 95 %",
        lambda value: value >= 0.95,
    ),
    "sense_accuracy/no_image": ("sense, no image", "without the picture there is only guessing", "near chance", None),
    "sense_accuracy/swapped_follows": (
        "sense, swapped image",
        "another picture moves the answer to that picture's sense",
        ">= 90 %",
        lambda v: v >= 0.90,
    ),
    "sense_unseen/right_image": (
        "sense, unseen style",
        "the same in a style of drawing that was never trained on",
        ">= 85 %",
        lambda value: value >= 0.85,
    ),
    "grounding/own_over_other": (
        "words look at their own",
        "of two things, a word's map has more of the one it names; learned from words, without boxes",
        ">= 90 %",
        lambda value: value >= 0.9,
    ),
    "masked/right_image/word": (
        "masked words, right image",
        "held-out masked words, one at a time, written as they stood there",
        "",
        None,
    ),
    "masked/no_image/word": ("masked words, no image", "the same without the picture", "", None),
    "compress/kept": ("weights kept", "of the self-attention and the MLPs of both transformers", "", None),
    "compress/latency_ratio/image": ("time, a picture", "of the compressed model, by the full one's; batch 1", "", None),
    "compress/latency_ratio/text": ("time, a text", "of the compressed model, by the full one's; batch 1", "", None),
    "retrieval/i2t_r1": ("image to text R@1", "the nearest caption is one of the picture's own", "", None),
    "refer/accuracy_50": ("objects found", "phrases whose object is found, in a box that shares half with its own", "", None),
    "refer/absent_right": ("absent objects", "phrases that mean nothing in the picture and are recognised as such", "", None),
    "captioning/bleu4": ("BLEU-4", "n-grams of the captions that stand in a reference", "", None),
    "captioning/ciderD": ("CIDEr-D", "likeness to the references, rare words count more; may pass 100 %", "", None),
    "vqa/accuracy": ("VQA accuracy", "agreement of the answers with the annotators', by the official formula", "", None),
    "vqa/frequent_for_question": ("without the picture", "the most frequent training answer to the very same words", "", None),
    "generation/answer_accuracy": ("answers", "questions answered as the annotators did", "", None),
}
SAMPLES = "samples.jsonl"
CONDITIONS = (
    ("right_image", "right image", "the picture that the text was written for"),
    ("wrong_image", "wrong image", "of senses: a picture that shows none of them; of masked words: another example's picture"),
    ("no_image", "no image", "text alone"),
    ("swapped_follows", "swapped image", "a picture of another sense: how often the answer follows it"),
)


def finish(parts, workdir, results, samples, facts, tables=(), drawings=(), folder=None, about=None):
    """Write results.json, samples.jsonl and report.html (first process alone) and say where they are; returns the results.

    tables, drawings: what else the report shows, `draw.blocks.Table`s and SVG texts. folder: where they are written, if not in
    the run's own; about: {name: value} that results.json says of the results beside them.
    """
    if jax.process_index() == 0:
        folder = folder or workdir
        said = json.dumps(results | (about or {}), indent=2, sort_keys=True) + "\n"
        replace_text(os.path.join(folder, "results.json"), said)
        lines = [json.dumps(told(sample), ensure_ascii=False) + "\n" for sample in samples]
        replace_text(os.path.join(folder, SAMPLES), "".join(lines))
        path = os.path.abspath(os.path.join(folder, "report.html"))
        write_report(
            path,
            title=parts.system.title,
            summary=headlines(results),
            results=results,
            metrics=progress.read_metrics(workdir),
            config=parts.config.to_dict(),
            samples=samples,
            ablation=ablation(results),
            facts=facts,
            tables=tables,
            drawings=drawings,
        )
        logging.info("report: %s", path)
    return results


def told(sample):
    """The words of a sample of the report."""
    return {name: getattr(sample, name) for name in ("id", "kind", "text", "question", "answer", "truth")} | {
        "references": list(sample.references)
    }


def headlines(results):
    """The figures at the top of the report, as far as they were measured."""
    out = []
    for name, (label, meaning, target, good) in HEADLINES.items():
        if name in results:
            value = results[name]
            out.append(Figure(label, f"{100 * value:.1f} %", meaning, target, good(value) if good else None))
    return out


def ablation(results):
    """The image ablation of senses and of masked words, as bars."""
    groups = {}
    chance = results.get("sense_accuracy/chance")
    for title, key in {"Sense of the ambiguous word": "sense_accuracy/{}", "Masked words": "masked/{}/word"}.items():
        bars = [
            Bar(label, results[key.format(name)], chance if "sense" in key else None, meaning)
            for name, label, meaning in CONDITIONS
            if key.format(name) in results
        ]
        if bars:
            groups[title] = bars
    return groups
