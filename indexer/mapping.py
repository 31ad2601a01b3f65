"""How a project's logs lie in Elasticsearch: names, settings, field types. `analysis.py` says the same to tantivy."""

from typing import Any

from tunemill.indexer.fields import KEYWORDS, PARTS

LAYOUT = "2"  # count up with any change of the fields or the analysis: an index says which it was made by
_KEYWORD = {"type": "keyword"}
_TEXT = {"type": "text", "analyzer": "log_text"}
_ONLY_FOUND = {"type": "keyword", "doc_values": False}
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
    "_meta": {"layout": LAYOUT},
    "dynamic": False,
    "properties": {
        **dict.fromkeys(KEYWORDS, _KEYWORD),
        **dict.fromkeys(PARTS, _TEXT),
        "has": _KEYWORD,
        "near": _ONLY_FOUND,
        "ts": {"type": "date", "format": "epoch_millis"},
        "latency_ms": {"type": "double"},
        "cost_usd": {"type": "double"},
        "score": {"type": "double"},
        "chars": {"type": "long"},
        "input_tokens": {"type": "long"},
        "output_tokens": {"type": "long"},
        "metadata": {"type": "flattened"},
        "content_digest": _ONLY_KEPT,
        "record": {"type": "object", "enabled": False},
    },
}

NOTE_MAPPINGS: dict[str, Any] = {"dynamic": False, "properties": {"note": {"type": "object", "enabled": False}}}

FEEDBACK_MAPPINGS: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "id": _KEYWORD,
        "about": _KEYWORD,
        "ts": {"type": "date", "format": "epoch_millis"},
        "due": {"type": "date", "format": "epoch_millis"},
        "record": {"type": "object", "enabled": False},
    },
}

SETTINGS: dict[str, Any] = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "1s",  # set, because unset means that an index nobody searches is not refreshed
}


def alias(project: str) -> str:
    """The name that logs are written to and searched under."""
    return f"logs-{project}"


def notes_alias(project: str) -> str:
    """The name of the traces' notes, which are only read by id."""
    return f"traces-{project}"


def feedback_alias(project: str) -> str:
    """The name of the feedback."""
    return f"feedback-{project}"


def first_index(alias: str) -> str:
    """The index behind a new alias."""
    return f"{alias}-000001"


def templates(project: str) -> dict[str, dict[str, Any]]:
    """The index templates of a project, by their aliases.

    Elasticsearch ships templates that make data streams of `logs-*-*` and some `traces-*`; a higher priority wins over them.
    Of two projects' patterns that both fit an index, the longer is the one meant.
    """
    kept = {
        alias(project): (SETTINGS | {"analysis": ANALYSIS}, MAPPINGS),
        notes_alias(project): (SETTINGS, NOTE_MAPPINGS),
        feedback_alias(project): (SETTINGS, FEEDBACK_MAPPINGS),
    }
    return {
        name: {
            "index_patterns": [f"{name}-*"],
            "priority": 500 + len(project),
            "allow_auto_create": False,  # else who writes to one that was dropped makes it anew, with no alias
            "template": {"settings": settings, "mappings": mappings},
        }
        for name, (settings, mappings) in kept.items()
    }
