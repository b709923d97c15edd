"""System 5: the models of "A Survey of Vision-Language Pre-Trained Models" (Du et al., 2022), each a row of parts.

    python -m xmodal_jax.main --config=configs/zoo.py:vilt
        on the built-in scenes, minutes on 2 CPU cores
    python -m xmodal_jax.main --config=configs/zoo.py:clip,data=captions,path=my_photos
        your own pictures: a folder and a JSONL or CSV of captions
    python -m xmodal_jax.main --config=configs/zoo.py:vilt --config.model.interaction.layers=6 --config.examples.masked=span
        parts of one's own: every part of a row is a setting

Arguments (all optional): the row (vilt, clip); scale (tiny, base); data, path, images, name, lang as in
configs/pretrain.py; image_size; debug (a run of seconds).
"""

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.pairs import PairExamples
from xmodal_jax.data.sources import SOURCES, source_defaults
from xmodal_jax.models import Composed
from xmodal_jax.models.interactions import INTERACTIONS
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import IMAGE_ENCODERS, TEXT_ENCODERS, section
from xmodal_jax.train.optimizers import OptimizerConfig

SCALES = {
    "tiny": dict(
        blocks=dict(width=64, heads=4), depth=1 / 3, patch=8, image_size=64, shared_width=64, batch_size=64, total_steps=1500,
        learning_rate=1e-3,
    ),
    "base": dict(
        blocks=dict(width=768, heads=12), depth=1, patch=16, image_size=224, shared_width=512, batch_size=256,
        total_steps=100_000, learning_rate=1e-4,
    ),
}  # fmt: skip
# Layers are those of the published base size; a smaller scale has a part of them.
ROWS = {
    "vilt": dict(  # Kim et al., 2021
        text=("bert", {"layers": 0}), image=("linear_patches", {}), interaction=("single", {"layers": 12}),
        examples={"masked": "whole_word", "other": "text"},
        objectives={"words": {"weight": 1.0}, "match": {"weight": 1.0}, "alignment": {"weight": 0.1}},
    ),
    "clip": dict(  # Radford et al., 2021
        text=("clip", {"layers": 12}), image=("vit", {"layers": 12}), aggregate="first",
        objectives={"contrastive": {"weight": 1.0}},
    ),
}  # fmt: skip


def get_config(arg=""):
    args = parse_arg(
        arg, row="vilt", scale="tiny", data="scenes", path="", images="", name="", lang="", image_size=0, debug=False
    )
    row = choose(ROWS, args.row, "config argument row")
    scale = choose(SCALES, args.scale, "config argument scale")
    choose(SOURCES, args.data, "config argument data")
    scenes = args.data == "scenes"
    data = source_defaults(args.data) | {"source": args.data} | ({"cache": True, "lang": "en"} if scenes else {})
    if args.path:
        data[{"coco": "annotations", "tfds": "data_dir"}.get(args.data, "path")] = args.path
    data |= {name: args[name] for name in ("images", "name", "lang") if args[name]}

    config = run_defaults(scale["total_steps"], scale["batch_size"], checkpoint_every=500, debug=args.debug)
    config.data = ConfigDict(data)
    config.examples = defaults(
        PairExamples, length=16 if scenes else 32, image_size=args.image_size or scale["image_size"],
        tokenizer="words:1" if scenes else "words", flips="none" if scenes else "horizontal", **row.get("examples", {}),
    )  # fmt: skip
    contrastive = "contrastive" in row["objectives"]
    config.model = defaults(
        Composed, name="composed", image=None, text=None, interaction=None, aggregate=row.get("aggregate", "first"),
        shared_width=scale["shared_width"] if contrastive else 0, mean=0.8 if scenes else 0.45, std=0.25,
    )  # fmt: skip
    for derived in ("names", "attended", "predicts", "vocabulary"):
        del config.model[derived]
    config.model.init = ""

    def part(table, field):
        kind, own = row[field]
        own = {**scale["blocks"], **own}
        if "layers" in own:
            own["layers"] = max(round(own["layers"] * scale["depth"]), min(own["layers"], 1))
        if table is IMAGE_ENCODERS:
            own["patch"] = scale["patch"]
        return section(table, kind, "", own, f"row {args.row}, {field}")

    config.model.image, config.model.text = part(IMAGE_ENCODERS, "image"), part(TEXT_ENCODERS, "text")
    if "interaction" in row:
        config.model.interaction = part(INTERACTIONS, "interaction")
        del config.model.interaction["init"], config.model.interaction["freeze"]
    else:
        del config.model["interaction"]
    config.objectives = ConfigDict(row["objectives"])
    config.optimizer = defaults(OptimizerConfig, learning_rate=scale["learning_rate"])
    config.evaluators = ConfigDict({"objectives": {"count": 64 if args.debug else 512}})
    if contrastive:
        config.evaluators.retrieval = {"count": 16 if args.debug else 256}
    return config
