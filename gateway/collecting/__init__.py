"""Training data from prompts: ask every model, keep every answer, score it, write what was measured."""
