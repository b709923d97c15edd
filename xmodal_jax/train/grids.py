"""The tables that can be reproduced: what their cells change in a config, and the figures published for them."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Grid:
    """cells: base config -> {cell: {dotted config key: value}}; columns: {header: metric of results.json}.

    Among a cell's changes "arguments" stands for further arguments of the config file, where whole sections differ.
    Figures are given in percent, but in the columns of `plain`.
    tables: cells -> {title: {row label: cell}}; published: {cell: {header: figure as printed}}.
    """

    title: str
    config: str  # config file that the cells start from
    cells: Callable
    columns: dict  # or base config -> such a dictionary
    note: str = ""
    tables: Callable = lambda cells: {"All cells": {cell: cell for cell in cells}}
    plain: tuple = ()
    published: dict = dataclasses.field(default_factory=dict)


def crossmodal_cells(config):
    del config
    return {
        "none": {"examples.third": 0.0, "examples.gloss": 0.0},
        "third": {"examples.third": 0.5, "examples.gloss": 0.0},
        "dictionary": {"examples.third": 0.0, "examples.gloss": 0.5},
        "both": {"examples.third": 0.5, "examples.gloss": 0.5},
    }


CROSSMODAL_BYTES = Grid(
    title="Crossmodal byte language model: what third-modality text and dictionary senses add",
    config="configs/pretrain.py",
    cells=crossmodal_cells,
    columns={
        "sense, right image": "sense_accuracy/right_image",
        "wrong image": "sense_accuracy/wrong_image",
        "no image": "sense_accuracy/no_image",
        "swapped follows": "sense_accuracy/swapped_follows",
        "masked word": "masked/right_image/word",
        "masked word, no image": "masked/no_image/word",
        "i2t R@1": "retrieval/i2t_r1",
        "answers": "generation/answer_accuracy",
    },
    note="Claims 5 (third) and 6-7 (dictionary) of US 12,393,789 B2, each switched off in turn.",
)

LATENTS = [(kind, size) for kind in ("cls", "patch") for size in (64, 128, 768)]
WEAK = 0.001  # a KL weight, beside the paper's 0.1
PAPER_RATE = 1e-4  # where the base learning rate is the paper's 1e-5, its `cls` cells take this one
ORDER = ("BLEU-4", "ROUGE-1", "ROUGE-L", "METEOR")
PUBLISHED = {
    "baseline": (11.3, 45.6, 43.8, 39.1), "dual_encoder": (32.7, 46.2, 44.1, 63.3),
    "vae-cls-64": (9.33, 42.0, 40.2, 35.3), "vae-cls-128": (8.99, 42.1, 40.4, 35.4), "vae-cls-768": (9.05, 41.6, 39.7, 35.0),
    "vae-patch-64": (10.6, 44.4, 42.7, 37.7), "vae-patch-128": (10.5, 44.3, 42.5, 37.4),
    "vae-patch-768": (11.0, 45.1, 43.3, 38.6),
    "vae_cl-cls-64": (8.56, 41.0, 39.1, 34.5), "vae_cl-cls-128": (8.94, 42.5, 40.6, 35.6),
    "vae_cl-cls-768": (8.86, 42.3, 40.5, 35.5),
    "vae_cl-patch-64": (11.1, 45.3, 43.5, 38.7), "vae_cl-patch-128": (12.1, 46.4, 44.7, 39.9),
    "vae_cl-patch-768": (11.9, 46.4, 44.5, 39.9),
}  # fmt: skip


def caption_cells(config):
    """Tables 1-4; beside them the literal C_EOS, which has seen the image, pictures with the captions of others, alignment
    without a latent, and a prior that presses a hundredth as hard."""

    def weights(alpha, beta, gamma):
        values = zip(("captioning", "kl", "contrastive"), (alpha, beta, gamma), strict=True)
        return {f"objectives.{name}.weight": value for name, value in values}

    cells = {"baseline": {"model.latent": "none", **weights(1.0, 0.0, 0.0)}}
    usual = config.optimizer.learning_rate
    for method, gamma in {"vae": 0.0, "vae_cl": 0.2}.items():
        for kind, size in LATENTS:
            rate = PAPER_RATE if kind == "cls" and usual < PAPER_RATE else usual
            cells[f"{method}-{kind}-{size}"] = {
                "model.latent": kind, "model.latent_size": size, "optimizer.learning_rate": rate, **weights(0.7, 0.1, gamma),
            }  # fmt: skip
    cells["dual_encoder"] = {"arguments": "method=dual_encoder"}
    best = cells["vae_cl-patch-128"]
    cells["vae_cl-patch-128-literal"] = {**best, "model.eos_source": "decoder_final"}
    cells["vae_cl-patch-128-shuffled"] = {**best, "examples.shuffled": True}
    cells["baseline-cl"] = {**cells["baseline"], **weights(0.7, 0.0, 0.2)}
    for name in ("vae-patch-128", "vae_cl-patch-128"):
        cells[f"{name}-weak"] = {**cells[name], "objectives.kl.weight": WEAK}
    return cells


def caption_tables(cells):
    """The paper's four, of the cells that there are, and the controls."""
    by_size = {method: {f"{kind}, {size}": f"{method}-{kind}-{size}" for kind, size in LATENTS} for method in ("vae", "vae_cl")}
    tables = {
        "Table 1: effect of VAE and CL": {
            "encoder-decoder": "baseline", "+ VAE": "vae-patch-768", "+ VAE + CL": "vae_cl-patch-128",
        },
        "Table 2: + VAE, latent type and size": by_size["vae"],
        "Table 3: + VAE + CL, latent type and size": by_size["vae_cl"],
        "Table 4: other structures": {
            "Dual-Encoder (retrieves)": "dual_encoder", "encoder-decoder": "baseline", "+ VAE + CL": "vae_cl-patch-128",
        },
        "Controls of + VAE + CL, patch, 128": {
            "C_EOS of the text alone": "vae_cl-patch-128", "C_EOS of the paper's words": "vae_cl-patch-128-literal",
            "captions of other pictures": "vae_cl-patch-128-shuffled",
        },
        "What the prior costs": {
            "encoder-decoder": "baseline", "+ CL": "baseline-cl", f"+ VAE, KL weight {WEAK}": "vae-patch-128-weak",
            f"+ VAE + CL, KL weight {WEAK}": "vae_cl-patch-128-weak", "+ VAE + CL": "vae_cl-patch-128",
        },
    }  # fmt: skip
    return of_known(tables, cells)


def of_known(tables, cells):
    """The tables without the rows whose cell there is not, and without empty ones."""
    known = {title: {label: cell for label, cell in rows.items() if cell in cells} for title, rows in tables.items()}
    return {title: rows for title, rows in known.items() if rows}


CAPTION_VAE_CL = Grid(
    title="Transformer-VAE-CL captioning",
    config="configs/caption.py",
    cells=caption_cells,
    columns={
        "BLEU-4": "captioning/bleu4",
        "ROUGE-1": "captioning/rouge1_f",
        "ROUGE-L": "captioning/rougeL_f",
        "METEOR": "captioning/meteor",
        "CIDEr-D": "captioning/ciderD",
        "frequent caption, CIDEr-D": "captioning/frequent/ciderD",
        "random caption, CIDEr-D": "captioning/random/ciderD",
        "i2t R@5": "retrieval/i2t_r5",
        "t2i R@5": "retrieval/t2i_r5",
        "modality gap before": "retrieval/gap_before",
        "modality gap after": "retrieval/gap",
        "active units": "latent/active_units",
        "collapsed": "latent/collapsed",
    },
    note="In percent; published: KIISE Transactions on Computing Practices 29(11), 2023, MSCOCO 2014, pretrained ViT-B/16 and "
    "GPT-2. The Dual-Encoder cannot write: it gives the training caption whose vector is nearest to the picture's. Tables 2 "
    "and 3 change the learning rate together with the latent type where the paper's rates are used.",
    tables=caption_tables,
    plain=("modality gap before", "modality gap after"),
    published={cell: dict(zip(ORDER, map(str, figures), strict=True)) for cell, figures in PUBLISHED.items()},
)
METHODS = {  # of fusion: as the paper calls them, and what it measured with LSTM and VGG
    "concatenation": ("concatenation", "35.90 ± 1.83"), "product": ("element-wise product", "36.38 ± 1.57"),
    "attention": ("cross-modal attention", "39.81 ± 1.02"), "evc": ("EVC", "47.29 ± 0.92"), "ume": ("UME", "50.48 ± 1.94"),
    "bilinear": ("bilinear, low rank (not published)", ""),
}  # fmt: skip
TEXTS = {"bert": "BERT", "roberta": "RoBERTa", "deberta_v3": "DeBERTa-v3"}
IMAGES = {"vit": "ViT", "beit": "BEiT"}
PAIRS = {  # (baseline, UME) of the pairs that the paper measured
    ("bert", "vit"): ("47.19", "55.33"), ("roberta", "vit"): ("49.41", "57.92"), ("deberta_v3", "beit"): ("58.25", "67.92"),
}  # fmt: skip


def fusion_cells(config):
    """All methods with LSTM and VGG; baseline and UME with every pair of transformers; UME without picture or question."""
    del config
    cells = {f"lstm-vgg-{method}": {"arguments": f"fusion={method}"} for method in METHODS}
    for text in TEXTS:
        for image in IMAGES:
            for method in ("product", "ume"):
                cells[f"{text}-{image}-{method}"] = {"arguments": f"text={text},image={image},fusion={method}"}
    for control in ("image", "question"):
        cells[f"lstm-vgg-ume-no-{control}"] = {"arguments": f"fusion=ume,blind={control}"}
    return cells


def fusion_tables(cells):
    pairs = [(text, image) for text in TEXTS for image in IMAGES]
    tables = {
        "LSTM and VGG, all methods": {label: f"lstm-vgg-{method}" for method, (label, _) in METHODS.items()},
        "Transformers: baseline (product) and UME": {
            f"{TEXTS[text]}, {IMAGES[image]}, {'UME' if method == 'ume' else 'baseline'}": f"{text}-{image}-{method}"
            for text, image in pairs for method in ("product", "ume")
        },
        "Controls of LSTM, VGG, UME": {
            "picture and question": "lstm-vgg-ume", "no picture": "lstm-vgg-ume-no-image",
            "no question": "lstm-vgg-ume-no-question",
        },
    }  # fmt: skip
    return of_known(tables, cells)


def fusion_columns(config):
    """Accuracy, of every type of question that the data have, and of what needs no picture."""
    kinds = {"scenes": ("exists", "color", "where", "count", "relation", "which"), "gqa": ()}
    named = kinds.get(config.data.source, ("yes/no", "number", "other"))
    return {
        "accuracy": "vqa/accuracy", **{kind: f"vqa/accuracy/{kind}" for kind in named},
        "frequent answer": "vqa/frequent", "frequent for these words": "vqa/frequent_for_question",
    }  # fmt: skip


VQA_UME = Grid(
    title="UME: uni-modal encoders combined pair by pair, for visual question answering",
    config="configs/vqa.py",
    cells=fusion_cells,
    columns=fusion_columns,
    note="In percent; published: VQA v2, pictures of 384 pixels, pretrained encoders. The frequent answers are those of the "
    "training questions of the same type, and of the very same words.",
    tables=fusion_tables,
    published={
        **{f"lstm-vgg-{method}": {"accuracy": figure} for method, (_, figure) in METHODS.items() if figure},
        **{
            f"{text}-{image}-{method}": {"accuracy": figure}
            for (text, image), figures in PAIRS.items()
            for method, figure in zip(("product", "ume"), figures, strict=True)
        },
    },  # fmt: skip
)
TABLES = {"crossmodal_bytes": CROSSMODAL_BYTES, "caption_vae_cl": CAPTION_VAE_CL, "vqa_ume": VQA_UME}
