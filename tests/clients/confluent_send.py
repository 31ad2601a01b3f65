"""Makes each case's call and publishes it with Confluent's client as Avro of our schema, registered in a schema registry."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import calls
import openai
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main() -> None:
    parser = calls.parser()
    parser.add_argument("--registry", required=True, help="the schema registry's address")
    parser.add_argument("--schemas", type=Path, required=True, help="the folder of tunemill's Avro schemas")
    parser.add_argument("--topic", required=True)
    arguments = parser.parse_args()
    registry = SchemaRegistryClient({"url": arguments.registry})
    as_avro = AvroSerializer(registry, json.dumps(_schema(arguments.schemas, "log_record", set())))
    producer = Producer({"bootstrap.servers": arguments.to.removeprefix("kafka://"), "acks": "all"})
    client = openai.OpenAI(base_url=arguments.model_url, api_key=calls.MODEL_KEY, max_retries=0)
    context = SerializationContext(arguments.topic, MessageField.VALUE)
    for case, request in calls.cases(arguments):
        log = {"log_id": uuid.uuid4().hex, "ts_ms": int(time.time() * 1000), "app": "shop", **_log(client, request)}
        producer.produce(arguments.topic, as_avro(log, context))
        calls.tell(case, response_id=log.get("response_id"), trace_id=log["trace_id"])
    if producer.flush(30):
        raise SystemExit("not everything was sent")


def _log(client: openai.OpenAI, request: dict[str, Any]) -> dict[str, Any]:
    """The call in the fields of our schema, as an application would fill them in by itself."""
    asked = {
        "trace_id": uuid.uuid4().hex,
        "model": request["model"],
        "messages": [_message(message) for message in request["messages"]],
        "tools": json.dumps(request["tools"]) if "tools" in request else None,
        "params": json.dumps({name: request[name] for name in ("temperature", "max_tokens", "n") if name in request}),
    }
    try:
        answer = client.chat.completions.create(**request)
    except openai.APIStatusError as failed:
        return {**asked, "status": "error", "error": failed.code}
    return {
        **asked,
        "response_id": answer.id,
        "output": [_message(choice.message.model_dump(exclude_unset=True)) for choice in answer.choices],
        "finish_reason": answer.choices[0].finish_reason,
        "usage": {"input_tokens": answer.usage.prompt_tokens, "output_tokens": answer.usage.completion_tokens},
    }


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    called = [{"id": call["id"], **_function(call)} for call in message.get("tool_calls") or ()]
    return {
        "role": message["role"],
        "content": "\n".join(part["text"] for part in parts if "text" in part) if parts else content,
        "parts": json.dumps(parts) if parts else None,
        "tool_calls": called,
        "tool_call_id": message.get("tool_call_id"),
    }


def _function(call: dict[str, Any]) -> dict[str, str]:
    return {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}


def _schema(folder: Path, name: str, defined: set[str]) -> Any:
    """A schema with those that it names written out where each is named first, as a registry wants it."""
    return _inlined(json.loads((folder / f"{name}.v1.avsc").read_text(encoding="utf-8")), folder, defined)


def _inlined(value: Any, folder: Path, defined: set[str]) -> Any:
    if isinstance(value, list):
        return [_inlined(one, folder, defined) for one in value]
    if isinstance(value, dict):
        return {
            key: _inlined(one, folder, defined) if key in ("type", "items", "fields") else one
            for key, one in value.items()
        }
    if isinstance(value, str) and value.startswith("tunemill.v1.") and value not in defined:
        defined.add(value)
        words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in value.rpartition(".")[2])
        return _schema(folder, words.lstrip("_"), defined)
    return value


if __name__ == "__main__":
    main()
