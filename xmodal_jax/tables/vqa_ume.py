"""System 4: all fusions of LSTM and VGG, UME beside the baseline for pairs of transformers, and controls."""

from xmodal_jax.tables.grid import Grid, of_known

METHODS = {  # of fusion: as the paper calls them, and what it measured with LSTM and VGG
    "concatenation": ("concatenation", "35.90 ± 1.83"), "product": ("element-wise product", "36.38 ± 1.57"),
    "attention": ("cross-modal attention", "39.81 ± 1.02"), "evc": ("EVC", "47.29 ± 0.92"), "ume": ("UME", "50.48 ± 1.94"),
    "bilinear": ("bilinear, low rank (not published)", ""),
}  # fmt: skip
TEXTS = {"bert": "BERT", "roberta": "RoBERTa", "deberta_v3": "DeBERTa-v3"}
IMAGES = {"vit": "ViT", "beit": "BEiT"}
PAIRS = {  # (baseline, UME) of the pairs that the paper measured
    ("bert", "vit"): ("47.19 ± 0.93", "55.33 ± 1.32"), ("roberta", "vit"): ("49.41 ± 1.05", "57.92 ± 1.48"),
    ("deberta_v3", "beit"): ("58.25 ± 0.89", "67.92 ± 1.21"),
}  # fmt: skip


def cells_of(config):
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


def tables_of(cells):
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


def columns_of(config):
    """Accuracy, of every type of question that the data have, and of what needs no picture."""
    kinds = {"scenes": ("exists", "color", "where", "count", "relation", "which"), "gqa": ()}
    named = kinds.get(config.data.source, ("yes/no", "number", "other"))
    return {
        "accuracy": "vqa/accuracy", **{kind: f"vqa/accuracy/{kind}" for kind in named},
        "frequent answer": "vqa/frequent", "frequent for these words": "vqa/frequent_for_question",
    }  # fmt: skip


GRID = Grid(
    title="UME: uni-modal encoders combined pair by pair, for visual question answering",
    config="configs/vqa.py",
    cells=cells_of,
    columns=columns_of,
    note="In percent; published: VQA v2, pictures of 384 pixels, pretrained encoders. The frequent answers are those of the "
    "training questions of the same type, and of the very same words.",
    tables=tables_of,
    published={
        **{f"lstm-vgg-{method}": {"accuracy": figure} for method, (_, figure) in METHODS.items() if figure},
        **{
            f"{text}-{image}-{method}": {"accuracy": figure}
            for (text, image), figures in PAIRS.items()
            for method, figure in zip(("product", "ume"), figures, strict=True)
        },
    },  # fmt: skip
)
