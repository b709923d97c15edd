"""Ways in which two modalities meet, by name: modules (text `Encoded`, image `Encoded`, mode, train) -> `Fused`."""

from xmodal_jax.models.interactions.cross import Cross
from xmodal_jax.models.interactions.dual_stream import DualStream
from xmodal_jax.models.interactions.experts import Experts
from xmodal_jax.models.interactions.gated import Gated
from xmodal_jax.models.interactions.single import Single

INTERACTIONS = {"single": Single, "dual_stream": DualStream, "cross": Cross, "experts": Experts, "gated": Gated}
