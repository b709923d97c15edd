"""What an interaction gives."""

from typing import Any

import flax


@flax.struct.dataclass
class Fused:
    """text [B, T, D] and image [B, N, D], vectors of tokens that have seen the other modality, in the order of the encoders';
    text_mask [B, T], image_mask [B, N]; pooled [B, D], one vector of the pair."""

    text: Any
    image: Any
    text_mask: Any
    image_mask: Any
    pooled: Any
