"""The perceptive router (Tryage, arXiv 2308.11601): from a prompt to every model's loss."""
