"""The perceptive router (Tryage, arXiv 2308.11601): perceive the task, predict every model's loss."""
