"""A tiny random Llama with a tokenizer trained on the spot, as a model folder; a dataset version as it is published."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tunemill.schemas.manifest import (
    SOURCES_END,
    DatasetManifest,
    Part,
    SourcesManifest,
    manifest_bytes,
    manifest_digest,
)
from tunemill.schemas.origin import Origin

CHATML = (
    "{%- if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.role == 'assistant' %}BEGIN{{- message.content }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- '\n<tool_call>\n' }}{{- call.function | tojson }}{{- '\n</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>' }}END{{- '\n' }}"
    "{%- else %}{{- message.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TEMPLATE = CHATML.replace("BEGIN", "").replace("END", "")
MARKED_TEMPLATE = CHATML.replace("BEGIN", "{% generation %}").replace("END", "{% endgeneration %}")  # what TRL needs
_MESSAGES = {"chat": ("messages",), "preference": ("prompt", "chosen", "rejected")}


def tiny_tokenizer(texts: Sequence[str]) -> Any:
    """A byte-level BPE tokenizer of 512 tokens; pad and end of text are the end of turn, a known trap."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    return fast


def save_tiny_model(folder: Path, texts: Sequence[str], *, seed: int = 0) -> Path:
    """Widths are multiples of 64: bitsandbytes' CPU kernels want it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(texts)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat(*turns: str, system: str | None = None) -> dict[str, Any]:
    """A row whose turns are the user's and the assistant's in turn."""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"messages": messages, "tools": None}


def tickets(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Support tickets to be routed: a task that even a tiny model learns a little of."""
    kinds = {"refund": "I want my money back for", "delivery": "where is my parcel", "account": "I cannot log in with"}
    rows = []
    for i in range(start, start + count):
        team, text = list(kinds.items())[i % 3]
        rows.append(chat(f"{text} {i}", json.dumps({"team": team}), system="Route the ticket."))
    return rows


def publish_dataset(
    files: Path,
    name: str,
    splits: dict[str, Sequence[dict[str, Any]]],
    *,
    shape: str = "chat",
    sources: dict[str, Sequence[dict[str, Any]]] | None = None,
) -> tuple[str, str]:
    """Write a dataset version under the files folder as its manifest says; gives the manifest's URL and digest.

    Args:
        sources: by split, of each row the fields of its `Origin`, ids where they matter; `sources_url` finds what is written of them.
    """
    folder = files / "datasets" / "default" / name
    parts = [_write_part(folder, split, rows, _MESSAGES[shape]) for split, rows in splits.items() if rows]
    manifest = DatasetManifest(
        shape=shape,
        columns=("row_id", *_MESSAGES[shape], "tools"),
        rows=sum(part.rows for part in parts),
        splits={split: len(rows) for split, rows in splits.items()},
        bits=dict.fromkeys(splits, 0),
        balance={},
        parts=tuple(parts),
    )
    content = manifest_bytes(manifest)
    digest = manifest_digest(content)
    if sources is not None:
        written = [_write_origins(folder, rows, sources[split]) for split, rows in splits.items() if rows]
        keys = _write(folder / "sources", b"", ".keys")
        named = SourcesManifest(digest=digest, keys=keys, sources=tuple(written))
        _write(folder / "sources", manifest_bytes(named), ".json")
    _write(folder / "manifests", content, ".json")
    return str(folder / "manifests" / f"{digest}.json"), digest


def sources_url(manifest_url: str) -> str:
    """Where what names the sources of a dataset version lies."""
    manifest = Path(manifest_url)
    beside = (manifest.parents[1] / "sources").glob("*.json")
    return next(str(path) for path in beside if json.loads(path.read_bytes())["digest"] == manifest.stem)


def _write_origins(folder: Path, rows: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> str:
    ids = [_row_id(row) for row in rows]
    origins = [
        Origin(**{"row_id": row_id, "row_keys": (row_id,), "log_ids": (row_id,), "conversation": row_id, **fields})
        for row_id, fields in zip(ids, known, strict=True)
    ]
    lines = b"".join(msgspec.json.encode(origin) + b"\n" for origin in origins)
    return _write(folder / "sources", zstandard.compress(lines), SOURCES_END)


def _write_part(folder: Path, split: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Part:
    stored = [
        {"row_id": _row_id(row), "tools": row.get("tools")}
        | {column: [json.dumps(message) for message in row[column]] for column in columns}
        for row in rows
    ]
    texts = [(column, pa.list_(pa.string())) for column in columns]
    schema = pa.schema([("row_id", pa.string()), *texts, ("tools", pa.string())])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(stored, schema=schema), buffer)
    content = buffer.getvalue()
    sha256 = _write(folder / "parts", content, ".parquet")
    return Part(sha256=sha256, bytes=len(content), rows=len(rows), split=split, bucket=0)


def _write(folder: Path, content: bytes, ending: str) -> str:
    """Write a file that is named by the SHA-256 of its bytes; gives that."""
    sha256 = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sha256}{ending}").write_bytes(content)
    return sha256


def _row_id(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:32]
