"""Makes each case's call with the plain openai or anthropic client, and posts the request beside what it answered.

This is what an application does that keeps its own log: `{"request": ..., "response": ...}`, where the response to a streamed call
is the list of its pieces.
"""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import anthropic
import calls
import openai


def main() -> None:
    arguments = calls.parser().parse_args()
    client = openai.OpenAI(base_url=arguments.model_url, api_key=calls.MODEL_KEY, max_retries=0)
    claude = anthropic.Anthropic(
        base_url=arguments.model_url.removesuffix("/v1"), api_key=calls.MODEL_KEY, max_retries=0
    )
    create: dict[str, Callable[..., Any]] = {
        "chat": client.chat.completions.create,
        "responses": client.responses.create,
        "messages": claude.messages.create,
    }
    for case in json.loads(arguments.cases.read_text(encoding="utf-8")):
        request = case["request"]
        pair = {"request": request, **_answered(create[case["api"]], request)}
        _post(f"{arguments.to}/v1/logs", arguments.key, {"app": "shop", **pair})
        calls.tell(case["name"], response_id=_id(pair.get("response")))


def _answered(create: Callable[..., Any], request: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = create(**request)
    except (openai.APIStatusError, anthropic.APIStatusError) as failed:
        return {"error": failed.body}
    if request.get("stream"):
        return {"response": [piece.model_dump(mode="json", exclude_unset=True) for piece in answer]}
    return {"response": answer.model_dump(mode="json", exclude_unset=True)}


def _id(response: Any) -> str | None:
    if isinstance(response, list):
        first = response[0]
        return (first.get("response") or first.get("message") or first)["id"]
    return response["id"] if response else None


def _post(url: str, key: str, value: Any) -> None:
    body = json.dumps(value).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        answer.read()


if __name__ == "__main__":
    main()
