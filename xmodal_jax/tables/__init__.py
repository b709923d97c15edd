"""The tables that can be reproduced, by name: one file a table."""

from xmodal_jax.tables import caption_vae_cl, crossmodal_bytes, share_prune, vqa_ume, zoo

TABLES = {
    "crossmodal_bytes": crossmodal_bytes.GRID, "caption_vae_cl": caption_vae_cl.GRID, "vqa_ume": vqa_ume.GRID,
    "share_prune": share_prune.GRID, "zoo": zoo.GRID,
}  # fmt: skip
