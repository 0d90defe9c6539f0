"""One file a paper. Each model is made of `companion.layers`, and `from_hf` fills it."""
