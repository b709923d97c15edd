"""System 5: the models of "A Survey of Vision-Language Pre-Trained Models" (Du et al., 2022), each a row of parts.

    python -m xmodal_jax.main --config=configs/zoo.py:vilt
        on the built-in scenes, minutes on 2 CPU cores
    python -m xmodal_jax.main --config=configs/zoo.py:clip,data=captions,path=my_photos
        your own pictures: a folder and a JSONL or CSV of captions
    python -m xmodal_jax.main --config=configs/zoo.py:vilt --config.model.interaction.layers=6 --config.examples.masked=span
        parts of one's own: every part of a row is a setting
    python -m xmodal_jax.main --config=configs/zoo.py:text=bert,image=vit,interaction=cross,objectives=words+match
        the same by argument: parts and objectives in place of the row's

Arguments (all optional): row, one of ROWS below; scale (tiny; base, the published sizes of the base models; paper, with the
published learning rate, batch size and steps where they are known); text, image, interaction, decoder (none: without),
objectives (joined by +); teacher (folder of a run, from which its model learns; of distill_vlm, which else trains one first);
regions (file of what a detector found, of rows that read regions); data, path, images, name, lang as in configs/pretrain.py;
image_size; debug (a run of seconds).
"""

import dataclasses

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.pair_examples import PairExamples
from xmodal_jax.data.sources import data_section
from xmodal_jax.models import Composed
from xmodal_jax.models.interactions import INTERACTIONS
from xmodal_jax.systems.composed import DRAWN, ON_GRIDS
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import DECODERS, IMAGE_ENCODERS, TEXT_ENCODERS, section
from xmodal_jax.train.optimizers import OptimizerConfig
from xmodal_jax.train.workdir import run_config

SCALES = {
    "tiny": dict(
        blocks=dict(width=64, heads=4), depth=1 / 3, patch=8, image_size=64, shared_width=64, batch_size=64, total_steps=1500,
        optimizer="muon", learning_rate=3e-3, regions=12, mask_share=0.3, residual_init=0.0,
        grid=("convit", "", dict(stem=2, widths=(24, 48, 64), depths=(0, 1, 1), layers=0, heads=4)),
    ),
    "base": dict(
        blocks=dict(width=768, heads=12), depth=1, patch=16, image_size=224, shared_width=512, batch_size=256,
        total_steps=100_000, optimizer="adamw", learning_rate=1e-4, regions=36, mask_share=0.15, residual_init=1.0,
        grid=("resnet", "", {}),
    ),
}  # fmt: skip
ROBERTA = ("roberta", {"layers": 12, "pad_positions": 0})
EFFICIENTNET_B7 = dict(stem=64, widths=(32, 48, 80, 160, 224, 384, 640), depths=(4, 7, 7, 10, 10, 13, 4), top=0)
WENLAN = {"negatives": "queue", "temperature": 0.07, "summed": True, "momentum": 0.99}
LAYERED = {"layers": 12}
NEEDED = {  # examples, of objectives that a row is given by an argument
    "words": {"masked": "random"}, "match": {"other": "text"}, "alignment": {"other": "text"}, "adversarial": {"other": "text"},
    "text_words": {"masked": "random"}, "written": {"written": "caption"}, "answers": {"asked": 0.5}, "codes": {"codes": 64},
    "image_codes": {"codes": 64}, "next_codes": {"codes": 64, "code_share": -1.0}, "siamese": {"views": 2},
    "match_hard": {"groups": True}, "contrast": {"groups": True},
}  # fmt: skip
# Learning rate, global batch size and steps of scale "paper", as far as public code or configs of a row tell them; None: not.
PUBLISHED = {
    "visualbert": (5e-5, 48, None), "uniter": (5e-5, None, 200_000), "oscar": (5e-5, 1024, None),
    "interbert": (1e-4, 512, None), "pixel_bert": (1e-4, 4096, None), "soho": (1e-4, None, None),
    "unified_vlp": (1e-4, 512, None), "vilt": (1e-4, 4096, 25_000), "vl_t5": (1e-4, 320, None), "lxmert": (1e-4, 256, None),
    "albef": (1e-4, 512, None), "vlmo": (2e-4, 1024, 200_000), "declip": (1e-3, None, 128_000),
    "data2vec": (2e-4, None, None), "scan": (2e-4, 128, None),
}  # fmt: skip
SCALES["paper"] = SCALES["base"]
HINGE = {"loss": "triplet", "negatives": "hardest", "margin": 0.2}
BERT, FROM_BERT = ("bert", {"layers": 0}), {"post_norm": True, "kinds": False}  # words' vectors alone; a stack that is BERT's
LXMERT_IMAGE = ("regions", {"geometry": "corners", "mix": "mean", "norm_parts": True, "norm": False})
LXMERT_STREAMS = ("dual_stream", {"layers": 5, "image_layers": 5, "shared": True})
APART = {"joint": False}  # a pass for each objective: what words mean is learned late where half of the pairs mislead them
TWO_VIEWS = {"views": 2, "zoom": 1.2, "brightness": 0.2}


def sees_first(*objectives, always=()):
    """Of rows whose convolutional network was pre-trained on ImageNet: here it first names the things of captions."""
    stages = {"see": (0.2, {"naming", *always}, ()), "pairs": (0.8, {*objectives, *always}, ())}
    return {"objectives": {"naming": {}}, "stages": stages}


VIEWED = (  # which can share one pass, examples.joint
    "words", "match", "answers", "alignment", "classes", "attributes", "features", "codes", "text_words", "attention_maps",
    "states",
)  # fmt: skip
# Layers are those of the published base size, a smaller scale has a part of them; `tiny` and `base`: what these scales change.
ROWS = {
    "visualbert": dict(  # Li et al., 2019
        text=BERT, image=("regions", {"geometry": "none", "mix": "plain", "segment": True}),
        interaction=("single", {"layers": 12, **FROM_BERT}),
        examples={"second": "caption", "masked": "random", "other": "text", "joint": True, "region_share": 0.0},
        objectives={"detector": {}, "words": {}, "match": {}},
    ),
    "uniter": dict(  # Chen et al., 2020
        text=BERT, image=("regions", {"geometry": "seven", "norm_parts": True, "segment": True, "hidden": "vector"}),
        interaction=("single", {"layers": 12, **FROM_BERT}),
        examples={"masked": "random", "other": "text", "joint": True, "draw": (2, 2, 2)},
        objectives={
            "words": {}, "match": {}, "alignment": {"weight": 0.1, "steps": 50}, "features": {"weight": 0.5},
            "classes": {"weight": 0.5, "targets": "soft"}, "detector": {},
        },
    ),
    "oscar": dict(  # Li et al., 2020
        text=BERT, image=("regions", {"geometry": "six", "mix": "joined", "norm": False}),
        interaction=("single", {"layers": 12, **FROM_BERT}),
        examples={"second": "tags", "masked": "random", "other": "text", "joint": True, "region_share": 0.0},
        objectives={"detector": {}, "words": {}, "match": {}},
    ),
    "distill_vlm": dict(  # Fang et al., 2021: half as wide as its teacher
        text=BERT, image=("regions", {"geometry": "six", "mix": "joined", "norm": False}), teacher="oscar",
        interaction=("single", {"layers": 12, **FROM_BERT}),
        examples={"second": "tags", "masked": "random", "other": "text", "joint": True, "region_share": 0.0},
        objectives={
            "detector": {}, "words": {"distil": 0.5}, "match": {}, "attention_maps": {}, "states": {"queue": 4096},
        },
        tiny={**dict.fromkeys(("text", "image", "interaction"), {"width": 32}), "objectives": {"states": {"queue": 1024}}},
        base=dict.fromkeys(("text", "image", "interaction"), {"width": 384}),
    ),
    "unicoder_vl": dict(  # Li et al., 2020
        text=BERT, image=("regions", {"geometry": "area"}), interaction=("single", {"layers": 12, "post_norm": True}),
        examples={"masked": "random", "other": "text"},
        objectives={"detector": {}, "words": {}, "match": {}, "classes": {"targets": "hard"}},
    ),
    "interbert": dict(  # Lin et al., 2020
        text=BERT, image=("regions", {"geometry": "area", "whole": True}),
        interaction=("single", {"layers": 6, "after": 6, "pool": "product", **FROM_BERT}),
        examples={"masked": "span", "other": "text", "joint": True, "region_share": 0.1, "overlap": 0.4},
        objectives={"words": {}, "match": {}, "classes": {"targets": "soft", "pairs": True}, "detector": {}},
        base={"interaction": {"after_heads": 8}}, tiny={"examples": APART, "objectives": {"classes": {"pairs": False}}},
    ),
    "vilt": dict(  # Kim et al., 2021
        text=BERT, image=("linear_patches", {}), interaction=("single", {"layers": 12}),
        examples={"masked": "whole_word", "other": "text"},
        objectives={"words": {}, "match": {}, "alignment": {"weight": 0.1, "steps": 50}},
    ),
    "vl_bert": dict(  # Su et al., 2020
        text=BERT, image=("regions", {
            "geometry": "sine", "waves": 0, "mix": "joined", "norm": False, "segment": True, "hidden": "vector",
        }),
        interaction=("single", {"layers": 12, "pictured_words": True, "pool": "none", **FROM_BERT}),
        examples={"masked": "random", "region_retained": 0.1, "text_alone": 0.5},
        objectives={"words": {}, "classes": {"targets": "soft"}, "detector": {}},
    ),
    "pixel_bert": dict(  # Huang et al., 2020
        text=BERT, image=("cells", {"sample": 100}), interaction=("single", {"layers": 12, **FROM_BERT}),
        examples={"masked": "random", "other": "text"}, objectives={"words": {}, "match": {}},
        tiny={"image": {"sample": 40}, **sees_first("words", "match")},
    ),
    "soho": dict(  # Huang et al., 2021
        text=BERT, image=("dictionary", {"entries": 2048, "normed": True}),
        interaction=("single", {"layers": 12, "post_norm": True}),
        examples={"masked": "random", "other": "text", "joint": True, "cell_share": 0.5},
        objectives={"words": {}, "match": {}, "visual_tokens": {}, "dictionary": {"decay": 0.1, "commitment": 0.0}},
        tiny={
            "image": {"entries": 64}, "examples": APART,
            **sees_first("words", "match", "visual_tokens", always=("dictionary", "naming")),
        },
    ),
    "unified_vlp": dict(  # Zhou et al., 2020
        text=BERT, image=("regions", {"geometry": "six"}), interaction=("single", {"layers": 12, "pool": "none", **FROM_BERT}),
        examples={"masked": "random", "causal": 0.75, "mask_end": True}, objectives={"detector": {}, "words": {}},
    ),
    "unimo": dict(  # Li et al., 2021
        text=BERT, image=("regions", {"geometry": "area", "whole": True}),
        interaction=("single", {"layers": 12, "unimodal": True, **FROM_BERT}), aggregate="mean",
        examples={"masked": "whole_word", "overlap": 0.4, "text_alone": 0.25, "image_alone": 0.25},
        objectives={
            "words": {}, "next_words": {}, "classes": {"targets": "soft"}, "detector": {}, "features": {}, "contrastive": {},
        },
    ),
    "simvlm": dict(  # Wang et al., 2022
        text=BERT, image=("linear_patches", {}), interaction=("single", {"layers": 12, "pool": "none"}),
        decoder=("gpt2", {"layers": 12}), examples={"written": "prefix"}, objectives={"written": {}},
    ),
    "xgpt": dict(  # Xia et al., 2020
        text=BERT, image=("regions", {"geometry": "area"}), interaction=("single", {"layers": 12, "pool": "none", **FROM_BERT}),
        decoder=("gpt2", {"layers": 12}),
        examples={"masked": "random", "written": "denoise", "region_share": 1.0},
        objectives={"detector": {}, "next_words": {}, "words": {}, "written": {}, "features": {}},
    ),
    "lxmert": dict(  # Tan and Bansal, 2019
        text=("bert", {"layers": 9}), image=LXMERT_IMAGE, interaction=LXMERT_STREAMS,
        examples={
            "masked": "random", "other": "text", "joint": True, "region_retained": 0.1, "region_replaced": 0.1, "asked": 0.5,
        },
        objectives={
            "detector": {}, "words": {}, "match": {}, "classes": {"targets": "hard", "where": "all"},
            "attributes": {"where": "all"}, "features": {"distance": "smooth"}, "answers": {},
        },
        tiny={"examples": APART},
    ),
    "vilbert": dict(  # Lu et al., 2019
        text=("bert", {"layers": 6}), image=("regions", {"geometry": "area", "whole": True}),
        interaction=("dual_stream", {"layers": 6, "cross_mlp": True, "pool": "product"}),
        examples={"masked": "random", "other": "text", "joint": True, "region_retained": 0.1, "overlap": 0.4},
        objectives={  # of wrong pairs nothing masked is told, as the public code is run: --objective 1
            "words": {"pairs": True}, "match": {}, "classes": {"targets": "soft", "pairs": True}, "detector": {},
        },
        base={"image": {"width": 1024}, "interaction": {"image_width": 1024, "image_heads": 8, "image_mlp_ratio": 1.0}},
    ),
    "visual_parsing": dict(  # Xue et al., 2021
        text=BERT, image=("vit", {"layers": 12}), interaction=("single", {"layers": 12}),
        examples={"masked": "random", "other": "text"},
        objectives={"words": {}, "match": {}, "attention_guided": {"attended": 8}},
    ),
    "dalle": dict(  # Ramesh et al., 2021
        text=BERT, image=("codes", {}), interaction=("single", {"layers": 12, "pool": "none"}),
        examples={"codes": 8192, "code_share": -1.0},
        objectives={"next_words": {"weight": 0.125, "mode": "sequence"}, "next_codes": {"weight": 0.875}},
        tiny={"examples": {"codes": 64}},
    ),
    "albef": dict(  # Li et al., 2021
        text=("bert", {"layers": 6}), image=("vit", {"layers": 12}), interaction=("cross", {"layers": 6}), shared_width=256,
        examples={"masked": "random", "groups": True},
        objectives={
            "contrast": {"queue": 65_536, "momentum": 0.995, "distil": 0.4, "ramp": 1000}, "match_hard": {},
            "words": {"distil": 0.4, "ramp": 1000},
        },
        tiny={"objectives": {"contrast": {"queue": 1024}}},
    ),
    "vl_t5": dict(  # Cho et al., 2021
        text=("t5", {"layers": 0}), image=("regions", {"geometry": "area", "norm_parts": True, "norm": False, "numbers": 100}),
        interaction=("single", {"layers": 12, "kinds": False, "pool": "none", "blocks": "t5"}), decoder=("t5", {"layers": 12}),
        examples={"written": "spans+answer+match+region+ground"}, objectives={"detector": {}, "written": {"mean": "example"}},
    ),
    "villa": dict(  # Gan et al., 2020: UNITER and disturbed pairs
        text=BERT, image=("regions", {"geometry": "seven", "norm_parts": True, "segment": True, "hidden": "vector"}),
        interaction=("single", {"layers": 12, **FROM_BERT}), examples={"masked": "random", "other": "text"},
        objectives={
            "words": {}, "match": {}, "classes": {"targets": "soft"}, "detector": {}, "features": {},
            "adversarial": {"steps": 3, "rate": 0.1},
        },
    ),
    "x_lxmert": dict(  # Cho et al., 2020
        text=("bert", {"layers": 9}), image=LXMERT_IMAGE, interaction=LXMERT_STREAMS, cells=8,
        examples={
            "masked": "random", "other": "text", "joint": True, "codes": 10_000, "code_share": 0.0, "regions": 64,
        },
        objectives={"words": {}, "match": {}, "codes": {}},
        tiny={"examples": {"codes": 64, **APART}, **sees_first("words", "match", "codes")},
    ),
    "tcl": dict(  # Yang et al., 2022
        text=("bert", {"layers": 6}), image=("vit", {"layers": 12}), interaction=("cross", {"layers": 6}), shared_width=256,
        examples={"masked": "random", "groups": True, **TWO_VIEWS},
        objectives={
            "contrast": {
                "queue": 65_536, "momentum": 0.995, "distil": 0.4, "ramp": 1000, "intra": True, "local": True,
            },
            "match_hard": {}, "words": {"distil": 0.4, "ramp": 1000, "second_picture": True},
        },
        tiny={"objectives": {"contrast": {"queue": 1024}}},
    ),
    "flava": dict(  # Singh et al., 2022
        text=("bert", {"layers": 12}), image=("vit", {"layers": 12}),
        interaction=("single", {"layers": 6, "kinds": False, "class_token": True}),
        examples={"masked": "random", "other": "text", "joint": True, "codes": 8192},
        objectives={
            "image_codes": {}, "text_words": {}, "contrastive": {}, "codes": {"pairs": True}, "words": {"pairs": True},
            "match": {},
        },
        tiny={"examples": {"codes": 64}},
    ),
    "vlmo": dict(  # Bao et al., 2022
        text=BERT, image=("linear_patches", {}), interaction=("experts", {"layers": 12, "joint": 2}),
        examples={"masked": "whole_word", "groups": True, "codes": 8192},
        objectives={"image_codes": {}, "text_words": {}, "contrastive": {"again": True}, "match_hard": {}, "words": {}},
        stages={  # shares of the steps; what was learned of texts alone leaves attention and the experts of images as they are
            "images": (0.2, ("image_codes",), ()),
            "texts": (0.2, ("text_words",), ("^image/", "^interaction/.*(attention|image)")),
            "pairs": (0.6, ("contrastive", "match_hard", "words"), ()),
        },
        tiny={"examples": {"codes": 64}, "objectives": {"match_hard": {"hardness": 0.25}}},
    ),
    "blip": dict(  # Li et al., 2022
        text=("bert", {"layers": 6}), image=("vit", {"layers": 12}), interaction=("cross", {"layers": 6}), shared_width=256,
        decoder=("gpt2", {"layers": 12}), examples={"written": "caption", "groups": True},
        objectives={
            "contrast": {"queue": 57_600, "momentum": 0.995, "distil": 0.4, "ramp": 1000}, "match_hard": {}, "written": {},
        },
        tiny={"objectives": {"contrast": {"queue": 1024}}},
    ),
    "coca": dict(  # Yu et al., 2022
        text=("clip", {"layers": 12}), image=("vit", {"layers": 12}), interaction=("cross", {"layers": 12, "post_norm": False}),
        objectives={"contrastive": {}, "next_words": {"weight": 2.0}},
    ),
    "clip": dict(  # Radford et al., 2021
        text=("clip", {"layers": 12}), image=("vit", {"layers": 12}), objectives={"contrastive": {}},
    ),
    "declip": dict(  # Li et al., 2022
        text=("clip", {"layers": 12}), image=("vit", {"layers": 12}), examples={"masked": "random", **TWO_VIEWS},
        objectives={
            "contrastive": {"weight": 0.4, "views": True}, "nearest": {"weight": 0.2, "queue": 65_536},
            "siamese": {"weight": 0.2}, "text_words": {"weight": 0.2},
        },
        tiny={"objectives": {"nearest": {"queue": 1024}}},
    ),
    "data2vec": dict(  # Baevski et al., 2022
        text=("bert", {"layers": 12}), image=("vit", {"layers": 12}),
        examples={"masked": "span", "mask_share": 0.35, "codes": 64, "code_share": 0.6},
        objectives={
            "text_regress": {"momentum": 0.999, "beta": 4.0, "layers": 10},
            "image_regress": {"momentum": 0.999, "beta": 2.0, "layers": 6},
        },
        tiny={"objectives": {"text_regress": {"layers": 3}, "image_regress": {"layers": 2}}},
    ),
    "align": dict(  # Jia et al., 2021
        text=("bert", {"layers": 12}), image=("grid", {}), objectives={"contrastive": {"smoothing": 0.1}}, temperature=1.0,
        base={"shared_width": 640, "grid": ("efficientnet", "", EFFICIENTNET_B7)},
    ),
    "siglip": dict(  # Zhai et al., 2023
        text=("bert", {"layers": 12}), image=("vit", {"layers": 12}), objectives={"contrastive": {"loss": "sigmoid"}},
        temperature=0.1,
    ),
    "wenlan": dict(  # Huo et al., 2021
        text=ROBERTA, image=("regions", {"geometry": "none", "mix": "plain", "layers": 4}), aggregate="mean",
        examples={"groups": True}, objectives={"contrast": WENLAN | {"queue": 9_600}},
        tiny={"objectives": {"contrast": {"queue": 1024}}},
    ),
    "wenlan2": dict(  # Fei et al., 2021
        text=ROBERTA, image=("grid", {}), aggregate="mean", examples={"groups": True},
        objectives={"contrast": WENLAN | {"queue": 13_312}}, tiny={"objectives": {"contrast": {"queue": 1024}}},
    ),
    "scan": dict(  # Lee et al., 2018
        text=("gru", {"layers": 1, "cell": "gru", "bidirectional": True}), aggregate="mean",
        image=("regions", {"geometry": "none", "mix": "plain", "norm": False}),
        objectives={"detector": {}, "contrastive": HINGE, "attended": HINGE},
    ),
    "gmu": dict(  # Arevalo et al., 2017
        text=("lstm", {"layers": 1}), image=("grid", {}), interaction=("gated", {}), examples={"asked": 1.0},
        objectives={"answers": {}},
    ),
}  # fmt: skip


def with_parts(row, args):
    """A row with the parts that arguments name in place of its own, and the examples that other objectives need."""
    row = dict(row)
    for name in ("text", "image", "interaction", "decoder"):
        if part := args[name]:
            row[name] = (part, LAYERED)
            if part == "none":
                del row[name]
    if args.objectives:
        asked = args.objectives.split("+")
        row["objectives"] = {name: row["objectives"].get(name, {}) for name in asked}
        row["examples"] = {key: value for name in asked for key, value in NEEDED.get(name, {}).items()} | row.get(
            "examples", {}
        )
    return row


def stages_of(stages, config):
    """{name: (share of the steps, objectives that count, frozen)} -> config.stages; none where not all of them are there."""
    ends, out = 0.0, {}
    if all(name in config.objectives for _, names, _ in stages.values() for name in names):
        for name, (share, active, frozen) in stages.items():
            ends += share
            without = {one: 0.0 for one in config.objectives if one not in active}
            until = round(ends * config.total_steps) if ends < 1 - 1e-6 else 0
            out[name] = {"until": until, "objectives": without, "freeze": frozen}
    return ConfigDict(out)


def get_config(arg=""):
    args = parse_arg(
        arg, row="vilt", scale="tiny", text="", image="", interaction="", decoder="", objectives="", teacher="", regions="",
        data="scenes", path="", images="", name="", lang="", image_size=0, debug=False,
    )  # fmt: skip
    config = config_of(args)
    if args.teacher:
        config.teacher = {"init": args.teacher, "run": run_config(args.teacher)}
    elif usual := ROWS[args.row].get("teacher"):
        own = dict.fromkeys(("text", "image", "interaction", "decoder", "objectives"), "")
        config.teacher = {"init": "", "run": config_of(ConfigDict({**args, **own, "row": usual}))}
    return config


def config_of(args):
    """The config of a row without its teacher."""
    row = with_parts(choose(ROWS, args.row, "config argument row"), args)
    scale = choose(SCALES, args.scale, "config argument scale")
    if args.scale == "paper":
        told = zip(("learning_rate", "batch_size", "total_steps"), PUBLISHED.get(args.row, ()), strict=False)
        scale = scale | {name: value for name, value in told if value}
    scenes, own_scale = args.data == "scenes", row.get("base" if args.scale == "paper" else args.scale, {})

    config = run_defaults(scale["total_steps"], scale["batch_size"], checkpoint_every=500, debug=args.debug)
    config.residual_init = scale["residual_init"]  # 0: image tokens are no noise to words before they mean something
    config.data = data_section(args, cache=True, lang="en")
    image_size = args.image_size or scale["image_size"]
    own = {"mask_share": scale["mask_share"]}  # of short captions a model as small learns to look sooner with twice as many
    few = 4 if scenes and args.scale == "tiny" else scale["regions"]  # a scene has three things at most
    own |= {"regions": few} if row["image"][0] == "regions" else {}
    own |= row.get("examples", {}) | own_scale.get("examples", {}) | ({"features": args.regions} if args.regions else {})
    if "codes" in own:
        own["code_patch"] = image_size // row["cells"] if "cells" in row else scale["patch"]
    config.examples = defaults(
        PairExamples, length=16 if scenes else 32, image_size=image_size, tokenizer="words:1" if scenes else "words",
        flips="none" if scenes or args.regions else "horizontal", **own,
    )  # fmt: skip
    shared = bool({"contrastive", "contrast", "attended"} & set(row["objectives"]))
    config.model = defaults(
        Composed, name="composed", image=None, text=None, interaction=None, decoder=None,
        aggregate=row.get("aggregate", "first"), mean=0.8 if scenes else 0.45, std=0.25,
        temperature=row.get("temperature", 0.07),
        shared_width=own_scale.get("shared_width", row.get("shared_width", scale["shared_width"])) if shared else 0,
    )  # fmt: skip
    for derived in (
        "teacher", "names", "attended", "biased", "again", "predicts", "vocabulary", "classes", "attributes", "answers",
        "codes",
    ):  # fmt: skip
        del config.model[derived]
    config.model.init = ""

    def part(table, field, kind, own, **more):
        own = {**scale["blocks"], **own, **more, **own_scale.get(field, {})}
        for layers in {"layers", "after", "image_layers", "joint"} & set(own):
            own[layers] = max(round(own[layers] * scale["depth"]), min(own[layers], 1))
        fields = {known.name for known in dataclasses.fields(choose(table, kind, f"row {args.row}, {field}"))}
        return section(table, kind, "", {name: own[name] for name in own if name in fields}, f"row {args.row}, {field}")

    config.model.text = part(TEXT_ENCODERS, "text", *row["text"])
    kind, own = row["image"]
    grid = section(IMAGE_ENCODERS, *(own_scale.get("grid") or scale["grid"]), "grid")
    if kind == "grid":
        config.model.image = grid
    elif kind in ON_GRIDS | DRAWN:
        config.model.image = part(ON_GRIDS | DRAWN, "image", kind, own)
        if kind in ON_GRIDS and not args.regions:
            config.model.image.grid = grid
        del config.model.image["init"], config.model.image["freeze"]
    else:
        config.model.image = part(IMAGE_ENCODERS, "image", kind, own, patch=scale["patch"])
    if "interaction" in row:
        config.model.interaction = part(INTERACTIONS, "interaction", *row["interaction"])
        del config.model.interaction["init"], config.model.interaction["freeze"]
    else:
        del config.model["interaction"]
    if "decoder" in row:
        config.model.decoder = part(DECODERS, "decoder", *row["decoder"])
    else:
        del config.model["decoder"]
    view = {"view": "joint"} if config.examples.joint else {}
    config.objectives = ConfigDict({
        name: {"weight": 1.0} | (view if name in VIEWED else {}) | own for name, own in row["objectives"].items()
        if name != "attributes" or scenes or args.regions  # lists of captions with boxes name objects alone
    })  # fmt: skip
    for name, more in own_scale.get("objectives", {}).items():
        if name in config.objectives or not args.objectives:
            config.objectives[name] = {"weight": 1.0} | dict(config.objectives.get(name, {})) | more
    config.stages = stages_of(row.get("stages", {}) | own_scale.get("stages", {}), config)
    config.optimizer = defaults(OptimizerConfig, name=scale["optimizer"], learning_rate=scale["learning_rate"])
    config.evaluators = ConfigDict(
        {"objectives": {"count": 64 if args.debug else 512, "predictions": 0 if args.debug else 500}}
    )
    if "attention_guided" in row["objectives"]:
        config.evaluators.flow = {"count": 16 if args.debug else 256}
    if {"next_codes", "codes"} & set(config.objectives):
        config.evaluators.drawing = {"count": 8 if args.debug else 64}
    told = row["objectives"].get("next_words", {"mode": ""}).get("mode", "causal") == "causal"
    if told or config.examples.mask_end or {"caption", "prefix"} & {*config.examples.written.split("+")}:
        config.evaluators.captioning = {"count": 16 if args.debug else 256}
    if shared:
        config.evaluators.retrieval = {"count": 16 if args.debug else 256}
    return config
