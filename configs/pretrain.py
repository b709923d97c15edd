"""System 1: pre-train the crossmodal byte language model.

    python -m xmodal_jax.main --config=configs/pretrain.py
        built-in scenes, English and Korean: 10 to 15 minutes on 2 CPU cores; the image settles the word (sense >= 95 %), and
        words look at their own things (own > other >= 90 %, without boxes)
    python -m xmodal_jax.main --config=configs/pretrain.py:data=captions,path=DIR
        your own pairs: a folder of pictures and a JSONL or CSV of captions
    python -m xmodal_jax.main --config=configs/pretrain.py:data=captions,path=DIR,init_image=FOLDER
        the same, seen by a pretrained ViT, BEiT, CLIP ...
    python -m xmodal_jax.main --config=configs/pretrain.py:data=emoji,path=DIR,lang=ko
        the emoji pack

Arguments (all optional): data, path (of data=coco its JSON file, beside images=DIR; of data=tfds its data_dir, beside
name=DATASET), lang, size (model: tiny, small, base, large), image_bytes (raw or file), second (image or
audio), image_size, image (a backbone in place of the model's own tower: convit, vit, beit, clip, resnet ...), init_image (a
checkpoint of one: folder or name), variant (none, third, dictionary, both), grounded (True: the decoder sees the picture
through the association of words alone), inventory, debug (a run of seconds).
"""

import math

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.byte_examples import ByteExamples
from xmodal_jax.data.sources import data_section
from xmodal_jax.models import CrossmodalBytes
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import IMAGE_ENCODERS, inputs_of, section
from xmodal_jax.train.optimizers import OptimizerConfig

SIZES = {
    "tiny": dict(width=32, heads=2, layers=1, text_layers=1, second_layers=1, decoder_layers=1, slots=8),
    "small": dict(width=96, heads=3, layers=2, text_layers=1, second_layers=1, decoder_layers=2, slots=16),
    "base": dict(
        width=768, heads=12, layers=8, text_layers=4, second_layers=6, decoder_layers=6, slots=32, stem_channels=384
    ),  # 0.2B
    "large": dict(  # 1.2B
        width=2048, heads=16, layers=10, text_layers=4, second_layers=4, decoder_layers=3, slots=64, stem_channels=512
    ),
}
VARIANTS = {"none": (0.0, 0.0), "third": (0.5, 0.0), "dictionary": (0.0, 0.5), "both": (0.5, 0.5)}


def get_config(arg=""):
    args = parse_arg(
        arg, data="scenes", path="", images="", name="", lang="", size="small", image_bytes="raw", second="image",
        image_size=0, image="", init_image="", variant="both", grounded=True, inventory="", debug=False,
    )  # fmt: skip
    size = dict(choose(SIZES, "tiny" if args.debug else args.size, "config argument size"))
    third, gloss = choose(VARIANTS, args.variant, "config argument variant")

    config = run_defaults(1600 if args.grounded else 1100, 32, checkpoint_every=250, debug=args.debug)
    config.data = data_section(args, cache=True)
    config.inventory = args.inventory
    config.scorer = ""  # of dictionary senses: Lesk; or as the frozen LM the text encoder of a run, or a BERT, by its folder

    bright = args.data in ("scenes", "emoji")  # drawn on light grounds: centred pixels are learned from far sooner
    pixels = {"image_size": args.image_size or 64, "mode": "resize", "mean": 0.8 if bright else 0.45, "std": 0.25}
    pixels |= inputs_of(args.init_image, args.image_size, args.image_size or 64) if args.init_image else {}
    has_backbone = bool(args.image or args.init_image)
    patch = math.gcd(pixels["image_size"], 8) if has_backbone or pixels["image_size"] <= 128 else 14
    config.examples = defaults(
        ByteExamples,
        second=args.second, image_bytes=args.image_bytes, image_size=pixels["image_size"], mode=pixels["mode"], patch=patch,
        third=third, gloss=gloss,
        text_length=96 if args.data == "scenes" else 160, target_length=48 if args.data == "scenes" else 64,
        mask_most=2, caption_share=0.25,
    )  # fmt: skip
    if args.data not in ("scenes", "emoji") and args.second == "image" and args.image_bytes == "raw":
        config.examples.update({"flips": "horizontal", "zoom": 1.3, "brightness": 0.1})
    config.model = defaults(CrossmodalBytes, name="crossmodal_bytes", **size, **second_modality(args, patch, pixels))
    config.objectives = ConfigDict({  # naming leads: the language losses can use a picture once its tower knows things
        "masked_words": {"weight": 1.0}, "generation": {"weight": 0.5},
        "contrastive": {"weight": 0.2}, "naming": {"weight": 4.0},
    })  # fmt: skip
    config.optimizer = defaults(OptimizerConfig, learning_rate=2e-3)
    if args.grounded:
        ground(config, size)
    if has_backbone:
        kind = args.image or "vit"
        blocks = {"width": size["width"], "heads": size["heads"], "layers": size["second_layers"], "patch": patch}
        blocks = blocks if kind in ("vit", "beit", "clip") else {}
        config.model.image = section(IMAGE_ENCODERS, kind, args.init_image, blocks, "config argument image")
        config.model.registers = 0
    count = 16 if args.debug else 256
    config.evaluators = ConfigDict(
        dict(
            sense=dict(count=count, words=("배",) * (args.data == "emoji" and "ko" in (args.lang or "ko").split("+"))),
            masked=dict(count=count, train=2000, words="", further=False),
            retrieval=dict(count=count),
            generation=dict(count=count // 4),
        )
    )
    is_raw = args.second == "image" and args.image_bytes == "raw"
    if args.data == "scenes" or is_raw and args.data in ("captions", "coco"):  # whose pictures may have boxes
        config.evaluators.grounding = {"count": count}
    if args.data == "scenes" and is_raw:
        config.evaluators.sense_unseen = {"count": count}
        config.evaluators.sense_emoji = {"path": ""}
    return config


def ground(config, size):
    """The decoder sees the other modality through the association of words alone."""
    # What a gap looks for is settled by the text before it, so that most blocks stand there.
    blocks = {"text_layers": size["text_layers"] + size["layers"], "layers": 1}
    config.model.update({"grounded": True, "association_heads": size["heads"], "coverage": True, "pointer": True, **blocks})
    config.objectives.update({"grounding": {"weight": 2.0}, "contrastive": {"weight": 1.0}, "generation": {"weight": 1.0}})
    if config.data.source == "scenes" and config.examples.second == "image":
        # Half of the drawings look like no other: shapes are learned, and known in a style that was never seen.
        config.data.update({"styles": ("flat", "cut", "shaded", *["varied"] * 3), "attributes": True})
        # Every picture has its caption written and a question answered beside the word that it settles.
        config.examples.update({
            "beside": ("caption", "answer"), "answer_gap": True, "caption_gaps": 2, "caption_share": 0.0, "answer_share": 0.0,
            "target_length": 32, "attributes": "told",
        })  # fmt: skip
        config.model.update({"text_window": 2, "text_residual": True, "attributes": True, "registers": 4})
        config.objectives.answer_bytes = {"weight": 3.0}
        config.objectives.grounding.attributes = 0.25  # few and soon learned: counted in full they hold up the things
    config.optimizer.update({"name": "muon", "learning_rate": 3e-3})


def second_modality(args, patch, pixels):
    """How the model groups the bytes of the second modality."""
    if args.second == "audio":
        return dict(second="audio", group=320, grid=0, table_width=4)  # 20 ms of 16-bit sound at 8 kHz a token
    if args.image_bytes == "file":
        return dict(second="file", stride=16)
    grid = pixels["image_size"] // patch
    return dict(second="raw", group=patch**2 * 3, grid=grid, stem="conv", mean=pixels["mean"], std=pixels["std"])
