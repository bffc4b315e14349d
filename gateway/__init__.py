"""The gateway service: all input and output lives here. It never needs torch."""

__version__ = "0.1.0"
DESCRIPTION = "An OpenAI-compatible LLM gateway that perceives a prompt before it routes it"
