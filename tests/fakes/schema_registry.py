"""A schema registry as Confluent's clients and ours know it, in memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from fakes.http_server import Answer, Asked, Server, json_answer, serving


@contextmanager
def schema_registry() -> Iterator[Server]:
    """Keep what is registered until the block ends; equal schemas have one id."""
    schemas: list[str] = []

    def answer(asked: Asked) -> Answer:
        path = asked.path.partition("?")[0].strip("/").split("/")
        if asked.method == "POST" and path[0] == "subjects":
            schema = asked.json()["schema"]
            if schema not in schemas:
                schemas.append(schema)
            number = schemas.index(schema) + 1
            return json_answer({"id": number, "version": 1, "subject": path[1], "schema": schema})
        if asked.method == "GET" and path[:2] == ["schemas", "ids"] and 0 < int(path[2]) <= len(schemas):
            return Answer(200, json.dumps({"schema": schemas[int(path[2]) - 1]}).encode())
        return json_answer({"error_code": 40403, "message": "Schema not found"}, 404)

    with serving(answer) as server:
        yield server
