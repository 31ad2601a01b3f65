"""The tiny model, made once per session."""

import os
from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_model import save_tiny_model

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny matrices: a second thread only waits for the first; workers inherit it


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunemill.trainer.general_rows import general_rows

    rows = general_rows("replay", "packaged") + general_rows("retention", "packaged")
    texts = [message["content"] for row in rows for message in row["messages"]]
    return save_tiny_model(tmp_path_factory.mktemp("base"), texts)


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> Any:
    from tunemill.trainer.model import load_tokenizer

    return load_tokenizer(tiny_base)
