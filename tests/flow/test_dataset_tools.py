"""A version and its export as other people's tools open them: `datasets`, TRL, DuckDB, Polars, pyarrow. Nothing is converted."""

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars
import pyarrow.dataset
import pytest
from fakes.tiny_model import MARKED_TEMPLATE, save_tiny_model

from tunemill.cli.export_hub import write_folder
from tunemill.curator_api.card import card
from tunemill.curator_api.openai_chat import to_value
from tunemill.curator_api.parts import StoredRow
from tunemill.curator_api.publish_files import card_path, name, write_rows
from tunemill.curator_api.rows import Row, RowMessage, imported_row, tools_text
from tunemill.curator_api.store import Files
from tunemill.schemas.manifest import SPLITS, DatasetManifest
from tunemill.schemas.records import ToolCall

os.environ["HF_HUB_OFFLINE"] = "1"
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL, datasets and their dependencies warn of one another

ROWS = 90  # several parts a split
TOOLS = tools_text([{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}])
REPORT = {"matched": ROWS, "rows": ROWS, "excluded": {}, "languages": {"en": ROWS}}
RECIPE = {"ingredients": [{"kind": "search", "query": "tag:topic:math"}]}

Opened = dict[str, list[dict[str, Any]]]  # rows by split


def made_row(number: int, shape: str) -> Row:
    """Every third row begins with a system message, every fourth calls a tool."""
    system = (RowMessage(role="system", content="Be brief."),) if number % 3 == 0 else ()
    user = RowMessage(role="user", content=f"What is {number} + {number}? größer 東京")
    call = ToolCall(id=f"c{number}", name="look_up", arguments=f'{{"q": {number}}}')
    called = (
        RowMessage(role="assistant", tool_calls=(call,)),
        RowMessage(role="tool", content="found", tool_call_id=f"c{number}"),
    )
    tried = called if number % 4 == 0 else ()
    answer = RowMessage(role="assistant", content=str(2 * number))
    worse = (RowMessage(role="assistant", content="I don't know"),) if shape == "preference" else ()
    return imported_row((*system, user, *tried, answer), TOOLS if tried else None, worse)


def stored_rows(shape: str) -> list[StoredRow]:
    rows = [made_row(number, shape) for number in range(ROWS)]
    stored = [
        StoredRow(
            row=row,
            row_id=row.row_id(),
            row_keys=(row.row_key,),
            place=int.from_bytes(row.place()[:8]),
            split=SPLITS[number % 5 == 0],
        )
        for number, row in enumerate(rows)
    ]
    return sorted(stored, key=lambda one: (one.place, one.row_id))


def published(folder: Path, shape: str) -> tuple[Path, DatasetManifest]:
    """A version on disk; the folder of its card."""
    stored = stored_rows(shape)
    splits = {split: sum(one.split == split for one in stored) for split in SPLITS}
    written = write_rows(Files(str(folder)), "datasets/p/d", [stored], splits=splits, shape=shape, balance={})

    def told(manifest: DatasetManifest, digest: str) -> str:
        parts = {split: [f"../../{one.path}" for one in manifest.parts if one.split == split] for split in SPLITS}
        facts: dict[str, Any] = {"report": REPORT, "recipe": RECIPE, "files": parts}
        return card(name="d", digest=digest, shape=shape, splits=manifest.splits, **facts)

    named = name(Files(str(folder)), "datasets/p/d", written, told)
    return (folder / "datasets/p/d" / card_path(named.digest)).parent, written.manifest


def exported(folder: Path, shape: str) -> Path:
    """The same rows as a folder for the hub."""
    stored = stored_rows(shape)
    splits = {split: sum(one.split == split for one in stored) for split in SPLITS}
    version = {"name": "d", "version": 1, "digest": "d" * 64, "rows": ROWS, "splits": splits, "shape": shape}

    def lines(split: str, done: int) -> Iterator[bytes]:
        rows = [one.row for one in stored if one.split == split][done:]
        yield from (msgspec.json.encode(to_value(row).value) + b"\n" for row in rows)

    write_folder(folder / "hub", {**version, "report": REPORT, "draft": RECIPE}, lines)
    return folder / "hub"


@pytest.fixture(scope="module", params=["version", "export"])
def where(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(params=["chat", "preference"])
def shape(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def files_of(where: str, folder: Path, shape: str) -> tuple[Path, dict[str, list[str]]]:
    """The folder to open, and the Parquet files of each split."""
    if where == "export":
        hub = exported(folder, shape)
        return hub, {split: sorted(map(str, hub.glob(f"data/{split}-*.parquet"))) for split in SPLITS}
    version, manifest = published(folder, shape)
    parts = {split: [one for one in manifest.parts if one.split == split] for split in SPLITS}
    return version, {split: [str(version.parents[1] / one.path) for one in parts[split]] for split in SPLITS}


def load(folder: Path, cache: Path) -> Any:
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def expected(shape: str) -> Opened:
    """The rows as they were published, in their order."""
    rows: Opened = {split: [] for split in SPLITS}
    for one in stored_rows(shape):
        messages = [shown(message) for message in one.row.messages]
        worse = [shown(message) for message in one.row.rejected]
        pair = {"prompt": messages[:-1], "chosen": messages[-1:], "rejected": worse}
        said = {"messages": messages} if shape == "chat" else pair
        rows[one.split].append({"row_id": one.row_id, **said, "tools": one.row.tools})
    return rows


def shown(message: RowMessage) -> dict[str, Any]:
    """A message as a chat template wants it: without what is not there, and arguments as an object."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
        for call in message.tool_calls
    ]
    told = {"role": message.role, "content": message.content, "tool_calls": calls, "tool_call_id": message.tool_call_id}
    return {name: value for name, value in told.items() if value}


def as_texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with each message read from its text."""
    texts = ("messages", "prompt", "chosen", "rejected")
    return [
        {name: [json.loads(one) for one in held] if name in texts else held for name, held in row.items()}
        for row in rows
    ]


def test_load_dataset_opens_the_folder_with_its_splits(tmp_path: Path, where: str, shape: str) -> None:
    folder, files = files_of(where, tmp_path, shape)
    opened = load(folder, tmp_path / "cache")
    assert where == "export" or len(files["train"]) > 1
    assert set(opened) == set(SPLITS)
    assert {split: opened[split].to_list() for split in SPLITS} == expected(shape)


def test_duckdb_polars_and_pyarrow_read_the_files(tmp_path: Path, where: str, shape: str) -> None:
    _, files = files_of(where, tmp_path, shape)
    for split, rows in expected(shape).items():
        table = pyarrow.dataset.dataset(files[split], format="parquet").to_table()
        assert as_texts(table.to_pylist()) == rows
        assert as_texts(polars.read_parquet(files[split]).to_dicts()) == rows
        found = duckdb.read_parquet(files[split]).fetchall()
        assert as_texts([dict(zip(rows[0], row, strict=True)) for row in found]) == rows
        answer = "messages[-1]->>'content'" if shape == "chat" else "chosen[1]->>'content'"
        texts = duckdb.sql(f"SELECT {answer} FROM read_parquet({files[split]!r})").fetchall()
        member = "messages" if shape == "chat" else "chosen"
        assert texts == [(row[member][-1]["content"],) for row in rows]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [message.content or "" for number in range(ROWS) for message in made_row(number, "chat").messages]
    return save_tiny_model(tmp_path_factory.mktemp("base"), texts)


def options(out: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "max_length": None,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        **more,
    }


def model_and_tokenizer(tiny: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = MARKED_TEMPLATE
    return AutoModelForCausalLM.from_pretrained(tiny), tokenizer


def test_trls_sft_trainer_takes_a_version_as_it_is(tmp_path: Path, where: str, tiny: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import SFTConfig, SFTTrainer
    opened = load(files_of(where, tmp_path, "chat")[0], tmp_path / "cache")
    model, tokenizer = model_and_tokenizer(tiny)
    args = SFTConfig(**options(tmp_path / "out", assistant_only_loss=True))
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=opened["train"],
        eval_dataset=opened["test"],
        processing_class=tokenizer,
    )
    texts = [tokenizer.decode(row["input_ids"]) for row in trainer.train_dataset]
    assert sum("Tools: " in text and '"name": "look_up"' in text for text in texts) == sum(
        row["tools"] is not None for row in opened["train"]
    )
    assert not any("None" in text or "null" in text for text in texts), "what is not there is not told to the model"
    assert trainer.train().global_step == 1


def test_trls_dpo_trainer_takes_a_version_of_pairs_as_it_is(tmp_path: Path, where: str, tiny: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import DPOConfig, DPOTrainer
    opened = load(files_of(where, tmp_path, "preference")[0], tmp_path / "cache")
    model, tokenizer = model_and_tokenizer(tiny)
    args = DPOConfig(**options(tmp_path / "out"))
    trainer = DPOTrainer(model=model, args=args, train_dataset=opened["train"], processing_class=tokenizer)
    assert trainer.train().global_step == 1
