"""Expert → GPU maps from a trace of expert choices, after MoETuner (arXiv 2502.06643)."""
