"""Thin routes: read the wire, call the pipeline, write the wire."""
