"""What determines a run's result, in parts and as one digest: `run_key`. Reads files, loads no model."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import msgspec

from tunemill.schemas.ids import digest
from tunemill.trainer.errors import BaseNotFound, DigestMismatch, InvalidRun
from tunemill.trainer.general_rows import general_rows_digest
from tunemill.trainer.named_files import named, read_named, where_to_look
from tunemill.trainer.recipe import PACKAGED, Recipe, spelled

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "added_tokens.json",
)
_DOWNLOAD = "download it, for example with `hf download ID --local-dir FOLDER`, and set base to that folder"


class BaseIdentity(msgspec.Struct, frozen=True):
    """Which base model: digests of its files, or of a hub id at a pinned commit."""

    weights: str
    tokenizer: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Digests of all that a recipe names and does not hold."""

    weights: str
    tokenizer: str
    template: str | None
    replay: str | None  # None: no general rows are trained on
    retention: str


_CALLED = {
    "weights": "the base model's weights or configuration",
    "tokenizer": "the base model's tokenizer",
    "template": "the template",
    "replay": "the replay file",
    "retention": "the retention file",
}


def identify(recipe: Recipe, base: BaseIdentity) -> Identity:
    """What the recipe names, as it is now.

    Raises:
        InvalidRun: a file that the recipe names cannot be read.
    """
    return Identity(
        weights=base.weights,
        tokenizer=base.tokenizer,
        template=None if recipe.template is None else digest(read_template(recipe.template)),
        replay=general_rows_digest("replay", recipe.replay) if recipe.replay_share else None,
        retention=general_rows_digest("retention", recipe.retention),
    )


def refuse_changed(ordered: Identity, found: Identity, recipe: Recipe) -> None:
    """A run is on what it was ordered with, or on nothing: its key names that. Packaged rows are the trainer's, as its code is.

    Raises:
        DigestMismatch: something is not what it was then.
    """
    packaged = [knob for knob in ("replay", "retention") if getattr(recipe, knob) == PACKAGED]
    changed = [
        called
        for name, called in _CALLED.items()
        if name not in packaged and getattr(ordered, name) != getattr(found, name)
    ]
    if changed:
        raise DigestMismatch(
            f"since the run was ordered, something else has come into the place of {', '.join(changed)}",
            "put back what was there, or order a new run on what is there now",
        )


def identify_base(base: str, revision: str | None) -> BaseIdentity:
    """The identity of a base model, without loading it; a folder's weights are read once.

    Raises:
        BaseNotFound: no such folder, no safetensors or tokenizer in it, or a hub id without a pinned commit.
    """
    folder = find_base(base, revision)
    if folder is None:
        pinned = digest([base, revision])  # a commit names its content
        return BaseIdentity(weights=pinned, tokenizer=pinned)
    try:
        weights = sorted(folder.glob("*.safetensors"))
        tokenizer = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        return BaseIdentity(
            weights=_digest_files([folder / "config.json", *weights]), tokenizer=_digest_files(tokenizer)
        )
    except OSError as error:
        raise BaseNotFound(f"a file of {folder} cannot be read: {type(error).__name__}", _DOWNLOAD) from error


def find_base(base: str, revision: str | None) -> Path | None:
    """The folder of a base model, None for a hub model at a pinned commit; nothing is read.

    Raises:
        BaseNotFound: no such folder, no safetensors or tokenizer in it, or a hub id without a pinned commit.
    """
    folder = named(base)
    if folder is not None and folder.is_dir():
        try:
            lacks = _lacking(folder)
        except OSError as error:  # such as another user's folder
            raise BaseNotFound(f"{folder} cannot be read: {type(error).__name__}", _DOWNLOAD) from error
        if lacks:
            raise BaseNotFound(f"{folder} holds no {lacks}", _DOWNLOAD)
        return folder
    if not HUB_ID.fullmatch(base):
        raise BaseNotFound(f"the base model folder {base} does not exist{where_to_look()}", _DOWNLOAD)
    if revision is None or not COMMIT.fullmatch(revision):
        raise BaseNotFound(
            f"{base} is no folder here, and as a hub model it is not pinned to a commit",
            f"set revision to the commit's 40 hexadecimal digits, or {_DOWNLOAD}",
        )
    return None


def _lacking(folder: Path) -> str | None:
    """What the folder of a model has and this one has not."""
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        return "config.json with *.safetensors weights"
    return None if (folder / "tokenizer.json").is_file() else "tokenizer.json"


def run_key(project: str, dataset_digest: str, identity: Identity, recipe: Recipe) -> str:
    """The digest of all that determines the result: dataset, base weights, tokenizer with template, recipe with seed, general rows.

    The project is in it, too: two projects never share a run.
    """
    return digest(
        {
            "project": project,
            "dataset": dataset_digest,
            "recipe": {**spelled(recipe), "base": None, "revision": None, "template": None},
            **msgspec.structs.asdict(identity),
        }
    )


def read_template(path: str) -> str:
    """The chat template that a recipe names.

    Raises:
        InvalidRun: the file cannot be read.
    """
    remedy = "set template to a .jinja file, or to null"
    try:
        return read_named(path, what="template", remedy=remedy).decode()
    except UnicodeDecodeError as error:
        raise InvalidRun(f"the template {path} is not UTF-8", remedy) from error


def _digest_files(paths: list[Path]) -> str:
    return digest([[path.name, _file_sha256(path, *_fingerprint(path))] for path in paths])


def _fingerprint(path: Path) -> tuple[int, int, int]:
    """What is another as soon as another file lies there, or something is written into this one."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=1024)
def _file_sha256(path: Path, *_fingerprint: int) -> str:
    """Cached for as long as the file is the same: weights are gigabytes, and one base serves many runs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
