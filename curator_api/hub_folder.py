"""Which files of a folder are a data set's, as the hub lays folders out, and which split each is. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
_BESIDE = re.compile(r"\.\./\.\./parts/[0-9a-f]{64}\.parquet")  # where the card of a version of ours points to
_SPLITS = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation", "eval": "test"}
_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(train|training|test|eval|validation|valid|val|dev)(?![a-z])")
_ABOUT = frozenset(
    {"manifest.json", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
)


class NoDataSet(Exception):
    """The folder is no data set that can be read, and why. Names files and configurations, never what they hold."""


class DataFile(NamedTuple):
    """A file and the split that it belongs to."""

    path: str  # relative to the folder
    split: str

    @property
    def held_out(self) -> bool:
        """Whether the set has it for testing or validation, as `test`, `val` or `test_sft`."""
        told = _SPLIT_IN_NAME.search(self.split)
        return told is not None and _SPLITS.get(told[1], told[1]) != "train"


def data_files(names: Sequence[str], readme: str | None) -> list[DataFile]:
    """The files of a data set in their order: as the card's front matter says, else as they are called.

    Args:
        names: every file of the folder, relative to it.
        readme: the text of its README.md.

    Raises:
        NoDataSet: there is none, or there are several to choose from.
    """
    config = _config(readme)
    found = list(_named(sorted(names)) if config is None else _of_config(config, sorted(names)))
    if not found:
        raise NoDataSet("it has no data files: name the .parquet, .jsonl, .json or .jsonl.gz files one by one")
    return found


def licence(readme: str | None) -> str | None:
    """The licence that the card states, if it states one."""
    front = _front_matter(readme)
    stated = front.get("license_name") or front.get("license")
    return stated if isinstance(stated, str) and stated != "unknown" else None


def shard_name(split: str, number: int, count: int) -> str:
    """How the hub calls the files of a split, relative to the folder."""
    return f"data/{split}-{number:05d}-of-{count:05d}.parquet"


def _config(readme: str | None) -> Mapping[str, Any] | None:
    configs = _front_matter(readme).get("configs")
    if not isinstance(configs, list) or not all(isinstance(one, dict) for one in configs):
        return None
    with_files = [one for one in configs if one.get("data_files")]
    if len(with_files) > 1:
        chosen = [one for one in with_files if one.get("default") is True or one.get("config_name") == "default"]
        if len(chosen) != 1:
            called = ", ".join(str(one.get("config_name")) for one in with_files)
            raise NoDataSet(f"it holds several data sets ({called}): name the files of one")
        with_files = chosen
    return with_files[0] if with_files else None


def _front_matter(readme: str | None) -> Mapping[str, Any]:
    if readme is None or not readme.startswith("---\n"):
        return {}
    try:
        front = yaml.safe_load(readme[4:].split("\n---", 1)[0])
    except yaml.YAMLError as error:
        raise NoDataSet("the front matter of its README.md is not YAML") from error
    return front if isinstance(front, dict) else {}


def _of_config(config: Mapping[str, Any], names: Sequence[str]) -> Iterator[DataFile]:
    stated = config["data_files"]
    entries = stated if isinstance(stated, list) else [stated]
    for entry in entries:
        one = entry if isinstance(entry, dict) else {"split": "train", "path": entry}
        paths = one.get("path")
        for path in paths if isinstance(paths, list) else [paths]:
            if isinstance(path, str):
                yield from (DataFile(name, str(one.get("split", "train"))) for name in _matching(path, names))


def _matching(path: str, names: Sequence[str]) -> Sequence[str]:
    """The files that a pattern names; nothing outside the folder, but for the parts of a version of ours."""
    if _BESIDE.fullmatch(path):
        return [path]
    pattern = str(PurePosixPath(path))
    found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        raise NoDataSet(f"its README.md names {path!r}, which is not there")
    return found


def _named(names: Sequence[str]) -> Iterator[DataFile]:
    """Those under data/, else those at the top: each of the split that its name tells, or its folder's."""
    files = [name for name in names if name.endswith(SUFFIXES) and PurePosixPath(name).name not in _ABOUT]
    under = [name for name in files if name.startswith("data/")]
    for name in under or [name for name in files if "/" not in name]:
        told = [split[1] for part in reversed(name.split("/")) if (split := _SPLIT_IN_NAME.search(part))]
        yield DataFile(name, _SPLITS.get(told[0], told[0]) if told else "train")
