"""What the drivers of the openai clients share. It runs in the client's environment: nothing of tunemill can be imported."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL_KEY = "sk-model-server"


def parser() -> argparse.ArgumentParser:
    """The arguments that every driver takes."""
    made = argparse.ArgumentParser()
    made.add_argument("--cases", type=Path, required=True, help="a JSON list of {name, api, request}")
    made.add_argument("--model-url", required=True, help="the model server's address, with /v1")
    made.add_argument("--to", required=True, help="the address of tunemill's API")
    made.add_argument("--key", required=True, help="an API key of tunemill's")
    return made


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each case's name and request."""
    for case in json.loads(arguments.cases.read_text(encoding="utf-8")):
        yield case["name"], case["request"]


def complete(client: Any, request: dict[str, Any], **more: Any) -> str | None:
    """Make the call as an application would, reading a stream to its end, and return the answer's id; none if it fails."""
    import openai

    create = client.responses.create if "input" in request else client.chat.completions.create
    try:
        answer = create(**request, **more)
        if request.get("stream"):
            first, *_ = list(answer)
            return getattr(first, "response", first).id
        return answer.id
    except openai.APIStatusError:
        return None


def tell(name: str, **ids: str | None) -> None:
    """Say which ids a case's log can be found by."""
    print(json.dumps({"case": name, **ids}), flush=True)


def noted(request: dict[str, Any]) -> dict[str, Any]:
    """What an application says of a call beside the call itself, where the client has a way to say it."""
    return {
        "user_id": f"user of {request['model']}",
        "session_id": f"session of {request['model']}",
        "tags": ["team:shop", "beta"],
        "metadata": {"tier": "gold"},
    }
