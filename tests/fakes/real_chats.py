"""Chats of real people, from the package chitchat-dataset (MIT; Will Myers 2020): 4,017 of them, up to 30,000 tokens long."""

from typing import Any

from chitchat_dataset import Dataset


def real_chats() -> list[dict[str, Any]]:
    """As rows: who speaks first asks, the other answers; what one of them says in a row is one message."""
    rows = [{"messages": messages, "tools": None} for chat in Dataset().values() if (messages := _messages(chat))]
    assert len(rows) == 4017
    return rows


def _messages(chat: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    roles: dict[str, str] = {}
    for turn in filter(None, chat["messages"]):
        role = roles.setdefault(turn[0]["sender"], "assistant" if roles else "user")
        text = "\n".join(said["text"] for said in turn if said.get("text"))
        if not text.strip():
            continue
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += "\n" + text
        else:
            messages.append({"role": role, "content": text})
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    return messages if len(messages) >= 2 else []
