"""System 2: Transformer-VAE-CL image captioning, its baselines and latents.

    python -m xmodal_jax.main --config=configs/caption.py
        + VAE + CL on the built-in scenes, a few minutes on 2 CPU cores
    python -m xmodal_jax.main --config=configs/caption.py:vae_cl,latent=patch,size=128,data=captions,path=DIR
        your own pictures: a folder and a JSONL or CSV of captions
    python -m xmodal_jax.main --config=configs/caption.py:vae_cl,image=vit,init_image=FOLDER,init_text=FOLDER,scale=paper,...
        from pretrained ViT and GPT-2 checkpoints, as the paper does

Arguments (all optional): method (baseline, vae, vae_cl, dual_encoder); latent (cls, patch, patch_concat) and size (of a latent:
64, 128, 768); scale (tiny, small, paper, large); data, path, images, name, lang as in configs/pretrain.py; image (convit, vit,
beit, clip, vgg, resnet); text (of a dual encoder: bert, roberta, deberta_v3); init_image, init_text, init_dual (folders or
names of checkpoints: of the image encoder, the GPT-2, a dual encoder's text encoder); image_size; views (side, or above for
pictures without an upside); debug (a run of seconds).
"""

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.captioning import CaptionExamples
from xmodal_jax.data.sources import data_section
from xmodal_jax.models import Captioner
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import DECODERS, IMAGE_ENCODERS, TEXT_ENCODERS, inputs_of, section
from xmodal_jax.train.optimizers import OptimizerConfig

METHODS = {  # weights (alpha, beta, gamma) of equation 5
    "baseline": (1.0, 0.0, 0.0),
    "vae": (0.7, 0.1, 0.0),
    "vae_cl": (0.7, 0.1, 0.2),
    "dual_encoder": (0.0, 0.0, 1.0),
}
SCALES = {
    "tiny": dict(
        image=dict(widths=(24, 48, 64), depths=(0, 1, 1), layers=1, heads=2),
        decoder=dict(width=64, heads=2, layers=1),
        shared_width=32, batch_size=32, total_steps=2000, learning_rate=2e-3,
    ),
    "small": dict(
        image=dict(widths=(48, 96, 192), depths=(1, 1, 2), layers=2, heads=4, dropout=0.1),
        decoder=dict(width=192, heads=4, layers=3, dropout=0.2),
        shared_width=128, batch_size=48, total_steps=3000, learning_rate=1e-3,
    ),
    "paper": dict(
        image=dict(width=768, heads=12, layers=12, patch=16), decoder=dict(width=768, heads=12, layers=12),
        shared_width=256, batch_size=48, total_steps=31250, learning_rate=1e-5,
    ),
    "large": dict(  # ViT-L/16 and GPT-2 large, or BERT large
        image=dict(width=1024, heads=16, layers=24, patch=16), decoder=dict(width=1280, heads=20, layers=36),
        text=dict(width=1024, heads=16, layers=24),
        shared_width=256, batch_size=48, total_steps=31250, learning_rate=1e-5,
    ),
}  # fmt: skip


def get_config(arg=""):
    args = parse_arg(
        arg, method="vae_cl", latent="patch", size=128, scale="tiny", data="scenes", path="", images="", name="", lang="",
        image="", text="bert", init_image="", init_text="", init_dual="", image_size=0, views="side", debug=False,
    )  # fmt: skip
    alpha, beta, gamma = choose(METHODS, args.method, "config argument method")
    scale = choose(SCALES, args.scale, "config argument scale")
    flips = choose({"side": "horizontal", "above": "all"}, args.views, "config argument views")
    pretrained = args.scale in ("paper", "large")  # the sizes of checkpoints
    scenes = args.data == "scenes"
    new_size = args.image_size or {"tiny": 64, "small": 128}.get(args.scale, 224)
    new_pixels = {"image_size": new_size, "mode": "resize", "mean": 0.8 if scenes else 0.45, "std": 0.25}
    pixels = new_pixels | (inputs_of(args.init_image, args.image_size, new_size) if args.init_image else {})

    config = run_defaults(scale["total_steps"], scale["batch_size"], checkpoint_every=500, debug=args.debug)
    config.eval_at_start = not args.debug  # the gap between the modalities before and after
    config.data = data_section(args, cache=True, lang="en")
    dual = args.method == "dual_encoder"
    tokenizer = (args.init_dual if dual else args.init_text) or ("words:1" if scenes else "words")
    config.examples = defaults(
        CaptionExamples, image_size=pixels["image_size"], mode=pixels["mode"], tokenizer=tokenizer,
        flips="none" if scenes else flips, zoom=1.0 if scenes else 1.3, brightness=0.0 if scenes else 0.1,
    )  # fmt: skip
    latent = "none" if dual or args.method == "baseline" else args.latent
    config.model = defaults(
        Captioner, name="captioner", image=None, decoder=None, text=None, latent=latent, latent_size=args.size,
        shared_width=scale["shared_width"], mean=pixels["mean"], std=pixels["std"],
    )  # fmt: skip
    del config.model.names
    usual, patch = ("vit", 16) if pretrained else ("convit", 8)
    image = args.image or usual
    encoder = scale.get("text", scale["decoder"])
    blocks = {**encoder, "patch": patch} if image in ("vit", "beit", "clip") else {}
    config.model.image = section(
        IMAGE_ENCODERS, image, args.init_image, scale["image"] if image == usual else blocks, "config argument image"
    )
    if dual:
        choose(dict.fromkeys(("bert", "roberta", "deberta_v3")), args.text, "config argument text")
        blocks = encoder | ({"pad_positions": 0} if args.text == "roberta" else {})
        config.model.text = section(TEXT_ENCODERS, args.text, args.init_dual, blocks, "config argument text")
    else:
        config.model.decoder = section(DECODERS, "gpt2", args.init_text, scale["decoder"], "config argument decoder")
    # What starts from nothing must see before the prior may press: else the latents collapse in the first hundred steps.
    new = not (args.init_image or pretrained)
    config.objectives = ConfigDict({
        "captioning": {"weight": alpha, "label_smoothing": 0.0},
        "kl": {"weight": beta, "warmup": config.get_ref("total_steps") // 2 if new else 0, "free_bits": 0.0, "mean": False},
        "contrastive": {"weight": gamma, "summed": True}, "naming": {"weight": 1.0 if new else 0.0},
    })  # fmt: skip
    config.optimizer = defaults(OptimizerConfig, learning_rate=scale["learning_rate"])
    count = 16 if args.debug else 256
    chosen = dict(choose_by="retrieve") if dual else {}
    config.evaluators = ConfigDict(
        dict(captioning=dict(count=count, **chosen), retrieval=dict(count=count), latent=dict(count=count))
    )
    return config
