"""System 2: tables 1-4 of Transformer-VAE-CL captioning, and controls."""

from xmodal_jax.tables.grid import Grid, of_known

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


def cells_of(config):
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


def tables_of(cells):
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


GRID = Grid(
    title="Transformer-VAE-CL captioning",
    config="configs/caption.py",
    cells=cells_of,
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
    tables=tables_of,
    plain=("modality gap before", "modality gap after"),
    published={cell: dict(zip(ORDER, map(str, figures), strict=True)) for cell, figures in PUBLISHED.items()},
)
