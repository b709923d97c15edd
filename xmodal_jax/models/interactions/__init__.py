"""Ways in which two modalities meet, by name: modules (text `Encoded`, image `Encoded`, mode, train) -> `Fused`."""

from xmodal_jax.models.interactions.single import Single

INTERACTIONS = {"single": Single}
