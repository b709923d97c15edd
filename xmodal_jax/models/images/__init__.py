"""What stands between an image encoder's grid and the tokens of a fused model."""
