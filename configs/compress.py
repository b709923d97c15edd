"""System 3: share and prune the weights of a trained model's text and vision transformers (Algorithm 1), then fine-tune.

    python -m xmodal_jax.main --config=configs/compress.py:keep=0.6,init=runs/search
        a run of configs/search.py (or caption.py, vqa.py with two transformers), on the data that it was trained on
    python -m xmodal_jax.main --config=configs/compress.py:keep=0.6,init=openai/clip-vit-base-patch32,data=captions,path=DIR
        a whole CLIP; init_image=FOLDER,init_text=FOLDER compress a ViT and a BERT, and without these a model from nothing

The smaller model is the run WORKDIR/compressed: evaluate it, search with it, train it further (its folder as init).

Arguments: keep (p, the share of the weights that stays), init; method (hypernetwork, direct, magnitude, random, layers; full:
nothing is compressed, the same steps all the same); prune, share (true or false); blocks (of text layers that share with their
first: 0 to 4); even (multiple of a layer's vectors: 8, 128 for TPUs, 0 for ragged heads); steps (of the whole run); data, path,
images, name, lang, image_size as in configs/search.py; debug (a run of seconds).
"""

import os

from xmodal_jax.config import defaults, load_config, parse_arg
from xmodal_jax.errors import UserError
from xmodal_jax.files import at_home
from xmodal_jax.systems import whole
from xmodal_jax.systems.compression import CompressConfig, further_steps
from xmodal_jax.train.workdir import run_config

DATA = ("data", "path", "images", "name", "lang")


def get_config(arg=""):
    args = parse_arg(
        arg, keep=0.6, init="", init_image="", init_text="", method="hypernetwork", prune=True, share=True, blocks=0, even=8,
        steps=0, data="", path="", images="", name="", lang="", image_size=0, debug=False,
    )  # fmt: skip
    args.init = at_home(args.init)
    config = base(args)
    if args.steps or args.debug:
        config.total_steps = args.steps or 20
    elif args.init or args.init_image:
        config.total_steps = further_steps(config.total_steps)
    epochs = 3
    steps = max(1, config.total_steps // (10 * epochs))  # of each kind: a fifth of all, and the rest trains what is left
    config.ema, config.eval_at_start = 0.0, False
    if args.debug:
        config.checkpoint_every, config.log_every = 10, 5
    if args.method == "full":
        return config
    config.compress = defaults(
        CompressConfig, keep=args.keep, method=args.method, prune=args.prune, share=args.share, blocks=args.blocks,
        even=args.even, epochs=epochs, weight_steps=steps, structure_steps=steps,
    )  # fmt: skip
    return config


def base(args):
    """The config of what is compressed: that of a run, or one that starts from checkpoints."""
    given = {name: args[name] for name in DATA if args[name]}
    if args.init and os.path.exists(os.path.join(args.init, "checkpoints")):
        config = run_config(args.init)
        if given:
            config.data = searching(given).data
        config.init = args.init
        config.stages = {}
        return config
    if args.init and whole.is_own(args.init):
        raise UserError(f"init={args.init} is a whole model; give the run that it came from, or train it further as a run.")
    towers = {name: args[name] for name in ("init", "init_image", "init_text") if args[name]}
    size = {"image_size": args.image_size} if args.image_size else {}
    scale = {"scale": "paper"} if towers else {}
    return searching(scale | {"debug": args.debug} | given | towers | size)


def searching(settings):
    """The config of configs/search.py with these arguments."""
    return load_config("configs/search.py", ",".join(f"{name}={value}" for name, value in settings.items()))
