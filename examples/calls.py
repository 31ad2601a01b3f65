"""One sample call of a model, before it is written down in any wire shape."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]

START_MS = 1_777_622_400_000  # 2026-05-01 08:00 UTC: the first call of every application
SPREAD_MS = 28 * 24 * 3600 * 1000  # four weeks of traffic


@dataclass(frozen=True, kw_only=True)
class Call:
    """What an application asked and what the model answered, in the shape of OpenAI's chat messages."""

    app: str
    model: str
    messages: tuple[Json, ...]
    answer: Json | None  # None: the call failed
    session: str
    user: str
    consent: str | None = "train"
    finish_reason: str = "stop"
    error: str | None = None
    tools: tuple[Json, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


def system(text: str) -> Json:
    """A system message."""
    return {"role": "system", "content": text}


def user(text: str) -> Json:
    """What a person wrote."""
    return {"role": "user", "content": text}


def answer(text: str) -> Json:
    """What the model wrote."""
    return {"role": "assistant", "content": text}


def person(rng: Random) -> str:
    """An opaque id of one of 300 users."""
    return f"user-{rng.randrange(300):03d}"
