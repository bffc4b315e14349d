"""Learned predictors: from a prompt to the expected quality of every model.

This package never speaks HTTP, never touches redis and never runs an event loop.
"""
