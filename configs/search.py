"""Systems 3 and 5: a dual encoder for search in pictures, of two transformers that are built alike.

    python -m xmodal_jax.main --config=configs/search.py
        a ViT and a BERT on the built-in scenes, a few minutes on 2 CPU cores
    python -m xmodal_jax.main --config=configs/search.py:data=captions,path=DIR,scale=small
        your own pictures: a folder and a JSONL or CSV of captions
    python -m xmodal_jax.main --config=configs/search.py:init=openai/clip-vit-base-patch32,scale=paper,...
        from a whole CLIP; init_image=FOLDER,init_text=FOLDER start from two encoders that have never met

Arguments (all optional): scale (tiny, small, paper, large: at tiny and small both encoders have the same width, heads, hidden
width and number of layers); data, path, images, name, lang as in configs/pretrain.py; image (vit, beit, clip, siglip, convit,
vgg, resnet, efficientnet, swin); text (bert, roberta, deberta_v3, clip); loss (infonce, triplet); attend (compare words and
regions too); refer (find the object that a phrase means, of data with phrases and boxes; its image encoder at scale tiny is
convit);
init (folder or name of a whole CLIP: encoders, projections, temperature, tokeniser, image size, mean and deviation of the
pixels are its own); init_image, init_text (of checkpoints of one encoder); image_size; views (side, or above for pictures
without an upside); debug (a run of seconds).
"""

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.captioning import CaptionExamples
from xmodal_jax.data.sources import data_section
from xmodal_jax.models import Composed
from xmodal_jax.objectives.ranking import LOSSES
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import IMAGE_ENCODERS, TEXT_ENCODERS, inputs_of, section
from xmodal_jax.train.optimizers import OptimizerConfig

SCALES = {
    "tiny": dict(
        blocks=dict(width=64, heads=4, layers=4), patch=8, image_size=64, shared_width=64, batch_size=64, total_steps=1500,
        learning_rate=1e-3,
    ),
    "small": dict(
        blocks=dict(width=192, heads=4, layers=6), patch=16, image_size=128, shared_width=128, batch_size=128,
        total_steps=10_000, learning_rate=5e-4,
    ),
    "paper": dict(
        blocks=dict(width=768, heads=12, layers=12), patch=16, image_size=224, shared_width=256, batch_size=256,
        total_steps=30_000, learning_rate=1e-5,
    ),
    "large": dict(  # ViT-L/16 and BERT large
        blocks=dict(width=1024, heads=16, layers=24), patch=16, image_size=224, shared_width=256, batch_size=256,
        total_steps=30_000, learning_rate=1e-5,
    ),
}  # fmt: skip
OTHERS = {  # encoders that are no stack of blocks
    "convit": dict(widths=(24, 48, 64), depths=(0, 1, 1), layers=1, heads=2), "vgg": {}, "resnet": {},
    "efficientnet": {}, "swin": {},
}  # fmt: skip
TINY = {
    "efficientnet": dict(
        stem=16, widths=(16, 24, 48, 96), depths=(1, 2, 2, 2), strides=(1, 2, 2, 2), kernels=(3, 3, 5, 3), expands=(1, 4, 4, 4),
        top=192,
    ),
    "swin": dict(first=32, depths=(1, 1, 2), stage_heads=(1, 2, 4), window=4),
}  # fmt: skip
# What finds objects at scale tiny: a convolutional start with a finer grid learns where things are far sooner than patches.
FINDING = {"convit": dict(stem=2, widths=(24, 48, 64), depths=(0, 1, 1), layers=2, heads=4)}
TEXTS = ("bert", "roberta", "deberta_v3", "clip")


def get_config(arg=""):
    args = parse_arg(
        arg, scale="tiny", data="scenes", path="", images="", name="", lang="", image="", text="", loss="infonce",
        attend=False, refer=False, init="", init_image="", init_text="", image_size=0, views="side", debug=False,
    )  # fmt: skip
    scale = choose(SCALES, args.scale, "config argument scale")
    flips = choose({"side": "horizontal", "above": "all"}, args.views, "config argument views")
    scenes = args.data == "scenes"
    new_size = args.image_size or scale["image_size"]
    pixels = {"image_size": new_size, "mode": "resize", "mean": 0.8 if scenes else 0.45, "std": 0.25}
    if args.init or args.init_image:
        pixels |= inputs_of(args.init or args.init_image, args.image_size, 0 if args.init else new_size, whole=bool(args.init))

    config = run_defaults(scale["total_steps"], scale["batch_size"], checkpoint_every=500, debug=args.debug)
    config.data = data_section(args, cache=True, lang="en")
    config.examples = defaults(
        CaptionExamples, length=16 if scenes else 32, image_size=pixels["image_size"], mode=pixels["mode"],
        tokenizer=args.init or args.init_text or ("words:1" if scenes else "words"), flips="none" if scenes else flips,
        zoom=1.0 if scenes else 1.3, brightness=0.0 if scenes else 0.1, phrases=4 if args.refer else 0,
    )  # fmt: skip
    config.model = defaults(
        Composed, name="composed", image=None, text=None, interaction="dual", shared_width=scale["shared_width"],
        aggregate="first" if args.init else "weighted", locator=2 if args.refer else 0, mean=pixels["mean"], std=pixels["std"],
    )  # fmt: skip
    for derived in (
        "temperature",
        "biased",
        "names",
        "attended",
        "decoder",
        "teacher",
        "predicts",
        "vocabulary",
        "classes",
        "answers",
        "codes",
    ):
        del config.model[derived]
    config.model.init = args.init
    finding = args.refer and args.scale == "tiny" and not (args.init or args.init_image)
    usual = ("clip", "clip") if args.init else ("convit" if finding else "vit", "bert")
    others = OTHERS | (TINY if args.scale == "tiny" else {}) | (FINDING if finding else {})
    image, text = args.image or usual[0], args.text or usual[1]
    choose(dict.fromkeys(TEXTS), text, "config argument text")
    blocks = scale["blocks"]
    for field, table, kind, init, settings in (
        ("image", IMAGE_ENCODERS, image, args.init_image, others.get(image, {**blocks, "patch": scale["patch"]})),
        ("text", TEXT_ENCODERS, text, args.init_text, blocks | ({"pad_positions": 0} if text == "roberta" else {})),
    ):
        config.model[field] = section(table, kind, args.init or init, settings, f"config argument {field}")
    choose(dict.fromkeys(LOSSES), args.loss, "config argument loss")
    ranking = {"loss": args.loss, "margin": 0.2, "negatives": "semi-hard", "similarity": "cosine", "equal": False}
    config.objectives = ConfigDict({
        "contrastive": {"weight": 1.0, "summed": False, **ranking},
        "attended": {"weight": float(args.attend), **ranking},
        "naming": {"weight": 0.0},
    })  # fmt: skip
    config.optimizer = defaults(OptimizerConfig, learning_rate=scale["learning_rate"])
    config.evaluators = ConfigDict({"retrieval": {"count": 16 if args.debug else 256}})
    if args.refer:
        config.ema = 0.998
        config.objectives.update({"referring": {"weight": 1.0}, "boxes": {"weight": 1.0}})
        config.evaluators.refer = {"count": 16 if args.debug else 256}
    return config
