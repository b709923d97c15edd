"""What an encoder of one modality gives."""

from typing import Any

import flax
import jax.numpy as jnp


@flax.struct.dataclass
class Encoded:
    """x [B, N, D], one vector a token; mask bool [B, N]; pooled [B, P], one vector for all, or None.

    logits: of the head that the checkpoint has, or None; pair_logits [B, 2]: of BERT's next-sentence head.
    names [B, V]: logits of the words that name an image, where a model asks for them.
    own [B, N, D]: the encoder's tokens, where x is what they were projected to; alone [B, N, D]: what an interaction that
    encodes each modality too has made of them; again [B, P]: a second vector for all.
    features [B, R, F]: of regions, before they became tokens.
    codes int [B, N]: numbers of the entries of a dictionary that tokens were nearest to; hidden bool [B, N]: which are masked.
    class_tokens: how many of the N tokens stand in front of those that have a place in the image or the text.
    """

    x: Any
    mask: Any
    pooled: Any = None
    logits: Any = None
    pair_logits: Any = None
    names: Any = None
    own: Any = None
    alone: Any = None
    again: Any = None
    features: Any = None
    codes: Any = None
    hidden: Any = None
    class_tokens: int = flax.struct.field(pytree_node=False, default=0)

    @property
    def deepest(self):
        """The tokens that have gone as far as they do without the other modality, [B, N, D]."""
        return self.own if self.alone is None else self.alone


def mask_of(x, mask=None):
    """`mask`, or all True for tokens x [B, N, D]."""
    return jnp.ones(x.shape[:2], bool) if mask is None else mask.astype(bool)
