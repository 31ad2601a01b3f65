"""tunemill: an application's LLM logs, turned into tuned models."""

__version__ = "0.1.0"
