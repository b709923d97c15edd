"""System 5: every row of the survey that stands, each objective on held-out pairs with the right picture and another's."""

from xmodal_jax.tables.grid import Grid, of_known

ROWS = (
    "visualbert", "vl_bert", "uniter", "oscar", "interbert", "pixel_bert", "unified_vlp", "unimo", "vilt", "simvlm", "vl_t5",
    "xgpt", "vilbert", "lxmert", "albef", "wenlan", "clip", "align", "declip", "flava", "vlmo", "unicoder_vl", "tcl",
    "x_lxmert", "soho", "visual_parsing", "dalle", "data2vec", "villa", "wenlan2", "scan", "gmu", "siglip", "coca", "blip",
    "distill_vlm",
)  # fmt: skip
CLASSED = (  # objectives that tell classes
    "words", "match", "match_hard", "classes", "attributes", "codes", "answers", "written", "next_words", "adversarial",
    "text_words", "image_codes", "next_codes",
)  # fmt: skip
PLAIN = {  # 1: no better than the mean
    "attention guided": "attention_guided/attention_guided_error", "features": "features/features_error",
    "attention maps": "attention_maps/attention_maps_error",
    "text_regress": "text_regress/text_regress_error", "image_regress": "image_regress/image_regress_error",
}  # fmt: skip


COSTS = {
    "parameters, M": "cost/parameters", "GFLOP an example, both ways": "cost/flops_per_example",
    "step, MiB": "cost/memory_bytes", "step, ms": "cost/step_ms",
}  # fmt: skip


def columns_of(config):
    """The same for every row: a dash where it has no such objective."""
    del config
    columns = dict(COSTS)
    for name in CLASSED:
        shown, place = name.replace("_", ", "), f"objectives/{name}"
        columns[shown] = f"{place}/{name}_right"
        if name != "match_hard":
            columns |= {f"{shown}: chance": f"{place}/chance", f"{shown}: gain, at least": f"{place}/gain_low"}
    columns |= {name: f"objectives/{metric}" for name, metric in PLAIN.items()}
    return columns | {"i2t R@1": "retrieval/i2t_r1", "t2i R@1": "retrieval/t2i_r1"}


GRID = Grid(
    title="Rows of the survey",
    config="configs/zoo.py",
    cells=lambda config: {row: {"arguments": f"row={row}"} for row in ROWS},
    columns=columns_of,
    tables=lambda cells: of_known({"All rows": dict(zip(ROWS, ROWS, strict=True))}, cells),
    note="Share of held-out predictions that are right, in percent, beside the share of the commonest class (chance). Gain: "
    "right picture - another pair's, the same masks, the lower end of its 95 % interval. Features: squared error over that of "
    "the mean feature. Retrieval: of the pairs of the retrieval evaluator.",
    plain=(*PLAIN, *COSTS),
)
