"""The gateway service: all input and output lives here. It never needs torch."""

__version__ = "0.1.0"
