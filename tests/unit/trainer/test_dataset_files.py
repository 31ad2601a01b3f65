"""A version is used as it was published, or not at all."""

import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.tiny_model import chat, publish_dataset, tickets

from tunemill.schemas.manifest import manifest_digest
from tunemill.trainer.dataset import open_dataset
from tunemill.trainer.errors import DatasetNotFound, DigestMismatch, InvalidRun
from tunemill.trainer.general_rows import general_rows, general_rows_digest
from tunemill.trainer.named_files import LARGEST_BYTES
from tunemill.trainer.recipe import VersionRows
from tunemill.trainer.texts import words

PAIR = {
    "prompt": [{"role": "user", "content": "Rain?"}],
    "chosen": [{"role": "assistant", "content": "Yes."}],
    "rejected": [{"role": "assistant", "content": "Who knows."}],
    "tools": None,
}


def test_rows_come_back_as_chat_rows(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    broken = {"type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
    row = chat("q", "a")
    row["messages"][1] = {"role": "assistant", "content": None, "tool_calls": [call, broken]}
    row["tools"] = '[{"type": "function"}]'
    url, digest = publish_dataset(tmp_path, "tools", {"train": [row], "test": tickets(2)})

    dataset = open_dataset(url, digest)

    (answer,) = [message for message in dataset.train[0]["messages"] if message["role"] == "assistant"]
    assert answer["content"] == ""
    assert [call["function"]["arguments"] for call in answer["tool_calls"]] == [{"city": "Oslo"}, '{"city": ']
    assert dataset.train[0]["tools"] == [{"type": "function"}]
    assert len(dataset.test) == 2


def test_pairs_come_back_as_messages(tmp_path: Path) -> None:
    url, digest = publish_dataset(tmp_path, "pairs", {"train": [PAIR]}, shape="preference")

    (row,) = open_dataset(url, digest, shape="preference").train

    assert {column: row[column] for column in PAIR} == PAIR
    assert row["row_id"]


def test_files_that_are_not_the_published_ones_are_refused(tmp_path: Path) -> None:
    url, digest = publish_dataset(tmp_path, "t", {"train": tickets(4)})

    with pytest.raises(DigestMismatch):
        open_dataset(url, "0" * 64)
    (part,) = tmp_path.rglob("*.parquet")
    part.write_bytes(part.read_bytes() + b" ")
    with pytest.raises(DigestMismatch, match="parts/"):
        open_dataset(url, digest)
    part.unlink()
    with pytest.raises(DatasetNotFound):
        open_dataset(url, digest)


def test_a_version_that_cannot_be_trained_on_says_why(tmp_path: Path) -> None:
    url, digest = publish_dataset(tmp_path, "pairs", {"train": [PAIR]}, shape="preference")
    with pytest.raises(InvalidRun, match="this recipe trains on chat rows"):
        open_dataset(url, digest)
    url, digest = publish_dataset(tmp_path, "chats", {"train": tickets(1)})
    with pytest.raises(InvalidRun, match="this recipe trains on preference rows"):
        open_dataset(url, digest, shape="preference")

    old = b'{"columns":[],"format":"tunemill-dataset/1","parts":[],"rows":0,"splits":{}}'
    (tmp_path / "old.json").write_bytes(old)
    with pytest.raises(InvalidRun, match="tunemill-dataset/1"):
        open_dataset(str(tmp_path / "old.json"), manifest_digest(old))


def test_the_packaged_general_rows_do_not_overlap() -> None:
    asked, replayed = (
        {" ".join(words(row["messages"][0]["content"])) for row in general_rows(kind, "packaged")}
        for kind in ("retention", "replay")
    )

    assert (len(asked), len(replayed)) == (120, 80)
    assert not asked & replayed


def test_the_packaged_general_rows_are_of_ten_topics_alike() -> None:
    retention = [row["topic"] for row in general_rows("retention", "packaged")]
    replay = {row["topic"] for row in general_rows("replay", "packaged")}

    assert set(Counter(retention).values()) == {12}
    assert replay == set(retention) == set(retention[:10]), "any first rows are of every topic"


def test_general_rows_can_be_those_of_a_version(tmp_path: Path) -> None:
    url, digest = publish_dataset(tmp_path, "chats", {"train": tickets(3), "test": tickets(2, start=9)})
    version = VersionRows(of="chats@v1", manifest_url=url, digest=digest)

    assert len(general_rows("replay", version)) == 3
    assert len(general_rows("retention", version)) == 2
    with pytest.raises(DigestMismatch):
        general_rows("replay", VersionRows(of="chats@v1", manifest_url=url, digest="0" * 64))


def test_a_general_file_s_messages_are_as_a_version_s(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))

    (read,) = general_rows("replay", str(tmp_path / "rows.jsonl"))

    assert read["messages"][1]["content"] == ""
    assert read["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}


def test_a_general_file_s_lines_end_with_a_line_feed_alone(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "two\u2028lines\x85"}, {"role": "assistant", "content": "a"}]}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode() + b"\r\n\r\n")

    assert general_rows("retention", str(path))[0]["messages"] == row["messages"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"messages": [{"role": "user", "content": "caf\xe9"}]}',
        b'{"messages": ' + b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\n" + line)

    with pytest.raises(InvalidRun, match="line 2"):
        general_rows("replay", str(tmp_path / "rows.jsonl"))


def test_arguments_that_no_parser_takes_stay_text(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": "[" * 100_000}}
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))

    (read,) = general_rows("replay", str(tmp_path / "rows.jsonl"))
    assert read["messages"][1]["tool_calls"][0]["function"]["arguments"] == "[" * 100_000


def test_a_topic_is_a_short_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [], "topic": "two\n## lines " + "x" * 100}))

    assert general_rows("retention", str(tmp_path / "rows.jsonl"))[0]["topic"] == "two ## lines " + "x" * 50


def test_accepted_answers_are_read_and_a_wrong_one_is_named_with_its_place(tmp_path: Path) -> None:
    path, row = tmp_path / "rows.jsonl", {"messages": [{"role": "user", "content": "q"}]}
    path.write_text("".join(json.dumps({**row, **more}) + "\n" for more in ({}, {"accepted_answers": ["Paris"]})))
    plain, known = general_rows("retention", str(path))

    assert "accepted_answers" not in plain
    assert known["accepted_answers"] == (("Paris",),)
    path.write_text("\n" + json.dumps({**row, "accepted_answers": "PRIVATE"}))
    with pytest.raises(InvalidRun, match=r"retention file .*rows\.jsonl, line 2: accepted_answers") as refused:
        general_rows("retention", str(path))
    assert "accepted_answers is [" in refused.value.remedy
    assert "PRIVATE" not in refused.value.message


def test_a_bad_general_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": []}\nnot json\n')

    with pytest.raises(InvalidRun, match="line 2"):
        general_rows("replay", str(path))
    with pytest.raises(InvalidRun, match="cannot be read"):
        general_rows("retention", str(tmp_path / "none"))


def test_a_general_file_is_digested_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    content = b"{}\n" * 2**22
    path.write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()

    tracemalloc.start()
    try:
        found = general_rows_digest("replay", str(path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found == expected
    assert peak_bytes < len(content) / 4


@pytest.mark.parametrize("ask", [general_rows, general_rows_digest])
def test_a_general_file_that_is_too_large_is_refused_unread(tmp_path: Path, ask: Callable[..., object]) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)  # a hole, which takes no disk

    with pytest.raises(InvalidRun, match=r"replay file .*rows\.jsonl has 1,073,741,825 bytes, more than") as refused:
        ask("replay", str(path))
    assert refused.value.remedy == "name a smaller file"
