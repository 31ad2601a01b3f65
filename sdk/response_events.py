"""The events of a streamed answer of OpenAI's Responses API -> the answer as it would have come in one piece.

The last event holds the whole answer. Only of a stream that ended before it, the items are put together here.
"""

from typing import Any

_FIELDS_OF_ITEM = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
_TEXTS = {"response.output_text.delta": "text", "response.refusal.delta": "refusal"}


class ResponseAnswer:
    """Grows with each event."""

    def __init__(self) -> None:
        self._response: Any = None  # as the last event that had one told it
        self._items: dict[int, Any] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}
        self._is_whole = False

    def add(self, event: Any) -> None:
        """Take one event, in order."""
        kind = getattr(event, "type", None)
        response = getattr(event, "response", None)
        if response is not None:
            self._response = response
            self._is_whole = kind in ("response.completed", "response.incomplete", "response.failed")
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._items[event.output_index] = event.item
            if kind == "response.output_item.done":
                self._forget(event.output_index)
        elif kind in _TEXTS or kind in _FIELDS_OF_ITEM:
            name = _TEXTS.get(kind) or _FIELDS_OF_ITEM[kind]
            self._pieces.setdefault((event.output_index, name), []).append(event.delta)

    def whole(self) -> Any:
        """The Response, or what came of it so far as a dict of its shape."""
        if self._is_whole or self._response is None:
            return self._response
        output = [self._item(index) for index in sorted(self._items)]
        told = {name: getattr(self._response, name, None) for name in ("id", "model", "object")}
        return {**told, "status": "in_progress", "output": output}

    def _item(self, index: int) -> Any:
        texts = {name: "".join(pieces) for (at, name), pieces in self._pieces.items() if at == index}
        if not texts:
            return self._items[index]
        item = self._items[index].model_dump(exclude_unset=True)
        content = [{name: texts.pop(name)} for name in ("text", "refusal") if name in texts]
        return {**item, **texts, **({"content": content} if content else {})}

    def _forget(self, index: int) -> None:
        """An item that is done tells all of it."""
        self._pieces = {at: pieces for at, pieces in self._pieces.items() if at[0] != index}
