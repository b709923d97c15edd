"""Encoders and decoders of the literature on the shared blocks; `xmodal_jax.interop` reads and writes their checkpoints.

Every encoder returns an `Encoded`. Masks are bool, True where there is something.
"""
