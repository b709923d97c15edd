"""Sharing and pruning of a text and a vision transformer's weights: pure functions of parameter trees, which know no model."""
