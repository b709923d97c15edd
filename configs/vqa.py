"""System 4: visual question answering by any two uni-modal encoders, combined pair by pair (UME), and its baselines.

    python -m xmodal_jax.main --config=configs/vqa.py
        UME of an LSTM and a VGG on the built-in scenes, a few minutes on 2 CPU cores
    python -m xmodal_jax.main --config=configs/vqa.py:text=deberta_v3,image=beit,fusion=ume,data=vqa2,path=DIR,scale=paper,...
        init_text=FOLDER,init_image=FOLDER start from pretrained checkpoints, as the paper does

Arguments (all optional): fusion (ume, evc, attention, product, concatenation, bilinear); text (lstm, gru, bert, clip,
roberta, deberta_v3); image (vgg, resnet, vit, beit, clip, convit); scale (tiny, small, paper, large); data (scenes, questions,
easy_vqa, vqa2, gqa) with path, images, lang; init_text, init_image (folders or names of checkpoints); image_size; third
(caption, sound: one more modality of the built-in scenes); blind (image, question: a control); debug (a run of seconds).
"""

from ml_collections import ConfigDict

from xmodal_jax.config import choose, defaults, parse_arg
from xmodal_jax.data.answering import QuestionExamples
from xmodal_jax.data.sources import SOURCES, source_defaults
from xmodal_jax.models import VQA
from xmodal_jax.models.backbones.spectrogram import Spectrogram
from xmodal_jax.models.backbones.vgg import VGG16
from xmodal_jax.models.fusion import FUSIONS
from xmodal_jax.systems.recipe import run_defaults
from xmodal_jax.systems.towers import IMAGE_ENCODERS, TEXT_ENCODERS, inputs_of, section
from xmodal_jax.train.optimizers import OptimizerConfig

PAPER = dict(image_size=384, batch_size=16, total_steps=277000, learning_rate=2e-5, answers=3128)  # 10 epochs of VQA v2
NEW = dict(heads=4, layers=3, batch_size=64, learning_rate=1e-3, answers=1000)
SCALES = {
    "tiny": dict(width=96, image_size=64, total_steps=2000, **NEW),
    "small": dict(width=192, image_size=128, total_steps=10000, **NEW),
    "paper": dict(width=768, heads=12, layers=12, **PAPER),
    "large": dict(width=1024, heads=16, layers=24, **PAPER),
}
PRETRAINED = ("paper", "large")  # the sizes of checkpoints
VGGS = {"tiny": (16, 0, 32, 0, 64, 64, 0), "small": (48, 48, 0, 96, 96, 0, 192, 192, 0, 192, 192, 0)}


def encoder(name, scale):
    """The settings of an encoder that starts from nothing."""
    width, pretrained = SCALES[scale]["width"], scale in PRETRAINED
    if name in ("lstm", "gru"):
        return {"cell": name, "width": width}
    if name == "vgg":
        return {"channels": VGGS.get(scale, VGG16)}
    if name in ("convit", "resnet"):
        return {"convit": {"widths": (width // 4, width // 2, width), "depths": (1, 1, 1), "layers": 1}}.get(name, {})
    blocks = {key: SCALES[scale][key] for key in ("width", "heads", "layers")}
    if name in ("vit", "beit"):
        return {**blocks, "patch": 16 if pretrained else 8}
    return {**blocks, "pad_positions": 0} if name == "roberta" else blocks


def get_config(arg=""):
    args = parse_arg(
        arg, fusion="ume", text="lstm", image="vgg", scale="tiny", data="scenes", path="", images="", lang="", init_text="",
        init_image="", image_size=0, third="", blind="none", debug=False,
    )  # fmt: skip
    scale = choose(SCALES, args.scale, "config argument scale")
    if args.scale == "paper" and args.text in ("lstm", "gru"):  # as the paper's rows with an LSTM
        scale = {**scale, "batch_size": 32, "total_steps": scale["total_steps"] // 2, "answers": 1000, "optimizer": "adam"}
    choose(SOURCES, args.data, "config argument data")
    choose({"": 0, "caption": 0, "sound": 0}, args.third, "config argument third")
    scenes = args.data == "scenes"
    data = source_defaults(args.data) | {"source": args.data} | ({"cache": True, "lang": "en"} if scenes else {})
    data |= {name: args[name] for name in ("path", "images", "lang") if args[name]}

    config = run_defaults(scale["total_steps"], scale["batch_size"], checkpoint_every=500, log_every=50, debug=args.debug)
    config.data = ConfigDict(data)
    new_size = args.image_size or scale["image_size"]
    pixels = {"image_size": new_size, "mode": "resize", "mean": 0.8 if scenes else 0.5, "std": VQA.std}
    if args.init_image:
        pixels |= inputs_of(args.init_image, args.image_size, new_size)
    config.examples = defaults(
        QuestionExamples, image_size=pixels["image_size"], mode=pixels["mode"], length=16 if scenes else 24,
        tokenizer=args.init_text or "words:1",
        answers=scale["answers"], blind=args.blind, caption=args.third == "caption", sound=4000 * (args.third == "sound"),
        names=scenes,
    )  # fmt: skip
    config.model = defaults(VQA, name="vqa", hidden=scale["width"], mean=pixels["mean"], std=pixels["std"])
    del config.model.names
    config.model.image = section(
        IMAGE_ENCODERS, args.image, args.init_image, encoder({"clip": "vit"}.get(args.image, args.image), args.scale),
        "config argument image",
    )  # fmt: skip
    config.model.text = section(
        TEXT_ENCODERS, args.text, args.init_text, encoder(args.text, args.scale), "config argument text"
    )
    fusion = choose(FUSIONS, args.fusion, "config argument fusion")
    config.model.fusion = ConfigDict({"name": args.fusion} | defaults(fusion, width=scale["width"]).to_dict())
    config.model.sound = defaults(Spectrogram, width=scale["width"])
    config.objectives = ConfigDict({"answering": {"weight": 1.0, "targets": "hard" if args.scale in PRETRAINED else "soft"}})
    if scenes:  # an encoder that starts from nothing learns what things are before answers can teach it
        config.objectives.naming = ConfigDict({"weight": 1.0})
    config.optimizer = defaults(
        OptimizerConfig, name=scale.get("optimizer", "adamw"), learning_rate=scale["learning_rate"]
    )  # fmt: skip
    config.evaluators = ConfigDict(dict(answering=dict(count=16 if args.debug else 512)))
    return config
