"""How a project's logs lie in Elasticsearch: names, settings, field types. `analysis.py` says the same to tantivy."""

from typing import Any

from tunemill.indexer.fields import KEYWORDS

_KEYWORD = {"type": "keyword"}
_ONLY_KEPT = {"type": "keyword", "index": False, "doc_values": False}

ANALYSIS = {
    "analyzer": {
        "log_text": {
            "type": "custom",
            "tokenizer": "standard",
            "filter": ["cjk_width", "lowercase", "asciifolding", "cjk_bigram", "snowball"],  # snowball: English
        }
    },
}

MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        **dict.fromkeys(KEYWORDS, _KEYWORD),
        "ts": {"type": "date", "format": "epoch_millis"},
        "content": {"type": "text", "analyzer": "log_text"},
        "latency_ms": {"type": "double"},
        "cost_usd": {"type": "double"},
        "input_tokens": {"type": "long"},
        "output_tokens": {"type": "long"},
        "metadata": {"type": "flattened"},
        "content_digest": _ONLY_KEPT,
        "record": {"type": "object", "enabled": False},
    },
}

SETTINGS: dict[str, Any] = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "1s",  # set, because unset means that an index nobody searches is not refreshed
    "analysis": ANALYSIS,
}


def alias(project: str) -> str:
    """The name that logs are written to and searched under."""
    return f"logs-{project}"


def first_index(project: str) -> str:
    """The index behind a new alias."""
    return f"logs-{project}-000001"


def template(project: str) -> dict[str, Any]:
    """The index template of a project.

    Elasticsearch ships a template that makes data streams of `logs-*-*`; a higher priority wins over it. Of two projects'
    patterns that both fit an index, the longer is the one meant.
    """
    return {
        "index_patterns": [f"logs-{project}-*"],
        "priority": 500 + len(project),
        "template": {"settings": SETTINGS, "mappings": MAPPINGS},
    }
