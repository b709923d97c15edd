"""System 5: every row of the survey that stands, each objective on held-out pairs with the right picture and another's."""

import numpy as np

from xmodal_jax.draw.blocks import Table
from xmodal_jax.tables.grid import Grid, of_known
from xmodal_jax.tables.runner import spread

ROWS = (
    "visualbert", "vl_bert", "uniter", "oscar", "interbert", "pixel_bert", "unified_vlp", "unimo", "vilt", "simvlm", "vl_t5",
    "xgpt", "vilbert", "lxmert", "albef", "wenlan", "clip", "align", "declip", "flava", "vlmo", "unicoder_vl", "tcl",
    "x_lxmert", "soho", "visual_parsing", "dalle", "data2vec", "villa", "wenlan2", "scan", "gmu", "siglip", "coca", "blip",
    "distill_vlm",
)  # fmt: skip
FOUR, TEXTS = "COCO, VG, CC, SBU", "Wikipedia and books"
PRETRAINED_ON = {  # from memory of the papers
    "visualbert": "COCO", "vl_bert": f"CC; {TEXTS}", "uniter": FOUR, "oscar": f"{FOUR}, Flickr30k, VQA, GQA, VG-QA",
    "interbert": "COCO, CC, SBU", "pixel_bert": "COCO, VG", "unified_vlp": "CC",
    "unimo": f"{FOUR}; {TEXTS}; Open Images, COCO unlabelled", "vilt": FOUR, "simvlm": "ALIGN's 1.8 B pairs; C4",
    "vl_t5": "COCO, VG, VQA, GQA, VG-QA", "xgpt": "CC", "vilbert": "CC", "lxmert": "COCO, VG, VQA, GQA, VG-QA",
    "albef": f"{FOUR} (and CC12M)", "wenlan": "RUC-CAS-WenLan, 30 M pairs", "clip": "WIT, 400 M pairs", "align": "1.8 B pairs",
    "declip": "CC, CC12M, YFCC and own, 88 M pairs", "flava": "PMD, 70 M pairs; ImageNet; CCNews and books",
    "vlmo": f"{FOUR}; ImageNet; {TEXTS}", "unicoder_vl": "CC, SBU", "tcl": f"{FOUR} (and CC12M)",
    "x_lxmert": "COCO, VG, VQA, GQA, VG-QA", "soho": "COCO, VG", "visual_parsing": "COCO, VG", "dalle": "250 M pairs",
    "data2vec": f"ImageNet; {TEXTS}", "villa": FOUR, "wenlan2": "WSCD, 650 M pairs", "scan": "none: its task's",
    "gmu": "none: its task's", "siglip": "WebLI", "coca": "JFT-3B, ALIGN's 1.8 B pairs",
    "blip": f"{FOUR}, CC12M, LAION-400M", "distill_vlm": "COCO, CC, SBU, Flickr30k, VQA, GQA, VG-QA",
}  # fmt: skip
NOTE = (
    "Share of held-out predictions that are right, in percent, with the pair's own picture, another pair's and a grey one, the "
    "same masks; the lower end of the 95 % interval of the first two's difference; the share of the commonest class (chance). "
    "Features, attention maps, regressions: squared error over that of the mean. Retrieval, captions, drawings: of the pairs "
    "of their evaluators."
)
PLAIN = {  # 1: no better than the mean
    "attention guided": "attention_guided/attention_guided_error", "features": "features/features_error",
    "attention maps": "attention_maps/attention_maps_error",
    "text_regress": "text_regress/text_regress_error", "image_regress": "image_regress/image_regress_error",
}  # fmt: skip
COSTS = {
    "parameters, M": "cost/parameters", "GFLOP an example, both ways": "cost/flops_per_example",
    "step, MiB": "cost/memory_bytes", "step, ms": "cost/step_ms",
}  # fmt: skip
OTHERS = {
    "i2t R@1": "retrieval/i2t_r1", "t2i R@1": "retrieval/t2i_r1",
    "CIDEr-D": "captioning/ciderD", "drawn, own nearer": "drawing/own_nearer",
}  # fmt: skip
TOLD = {  # of an objective NAME that tells classes
    "own picture": "NAME_right", "another's": "wrong", "none": "none", "difference, at least": "gain_low", "chance": "chance",
}  # fmt: skip


def objectives_of(values):
    """A `Table` of every objective that tells classes, row by row: what is right with which picture."""
    lines = []
    for row, found in values.items():
        for name in sorted(metric.split("/")[1] for metric in found if metric.endswith("/wrong")):
            figures = {told: found.get(f"objectives/{name}/{told.replace('NAME', name)}") for told in [*TOLD.values(), "count"]}
            count = figures.pop("count")
            lines.append([row, name, *map(spread, figures.values()), f"{np.mean(count):.0f}" if count else "-"])
    return [Table("Objectives", ["row", "objective", *TOLD, "predictions"], lines, NOTE)] if lines else []


GRID = Grid(
    title="Rows of the survey",
    config="configs/zoo.py",
    cells=lambda config: {row: {"arguments": f"row={row}"} for row in ROWS},
    columns=COSTS | {name: f"objectives/{metric}" for name, metric in PLAIN.items()} | OTHERS,
    tables=lambda cells: of_known({"All rows": dict(zip(ROWS, ROWS, strict=True))}, cells),
    note=NOTE,
    plain=(*PLAIN, *COSTS, "CIDEr-D"),
    of_models={"pre-trained on, when published": PRETRAINED_ON},
    more=objectives_of,
)
