"""Which files of a folder are its data, and of which split."""

import pytest

from tunemill.curator_api.hub_folder import DataFile, NoDataSet, data_files, shard_name

HASH = "ab" * 32


def card(configs: str) -> str:
    return f"---\nlicense: mit\nconfigs:\n{configs}\n---\n# A set\n"


@pytest.mark.parametrize(
    ("names", "readme", "found"),
    [
        (
            ["README.md", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet", "data/dev.jsonl"],
            "# no front matter",
            [
                ("data/dev.jsonl", "validation"),
                ("data/train-00000-of-00002.parquet", "train"),
                ("data/train-00001-of-00002.parquet", "train"),
            ],
        ),
        (
            ["test.jsonl.gz", "train.jsonl", "notes.txt", "deep/train.jsonl"],
            None,
            [("test.jsonl.gz", "test"), ("train.jsonl", "train")],
        ),
        (["rows.json", "training.csv", "dataset_infos.json"], None, [("rows.json", "train")]),
        (
            ["data/quiz_test.jsonl", "data/val/0000.parquet", "data/latest.jsonl"],
            None,
            [("data/latest.jsonl", "train"), ("data/quiz_test.jsonl", "test"), ("data/val/0000.parquet", "validation")],
        ),
        (["a.jsonl", "b/c.parquet"], card("- data_files: b/*.parquet"), [("b/c.parquet", "train")]),
        (
            ["x/1.parquet", "x/2.parquet", "y.jsonl"],
            card(
                "- config_name: default\n  data_files:\n  - split: train\n    path: x/*\n  - split: test\n    path: [y.jsonl]"
            ),
            [("x/1.parquet", "train"), ("x/2.parquet", "train"), ("y.jsonl", "test")],
        ),
        (
            [],
            card(f"- data_files:\n  - split: train\n    path:\n    - ../../parts/{HASH}.parquet"),
            [(f"../../parts/{HASH}.parquet", "train")],
        ),
        (
            ["a.jsonl", "b.jsonl"],
            card(
                "- config_name: one\n  data_files: a.jsonl\n- config_name: two\n  default: true\n  data_files: b.jsonl"
            ),
            [("b.jsonl", "train")],
        ),
    ],
)
def test_the_card_says_which_files_or_their_names_do(
    names: list[str], readme: str | None, found: list[tuple[str, str]]
) -> None:
    assert data_files(names, readme) == [DataFile(*one) for one in found]


@pytest.mark.parametrize(
    ("names", "readme", "reason"),
    [
        (["rows.csv"], None, "no data files"),
        (["a.jsonl"], card("- data_files: ../secrets.jsonl"), "not there"),
        (["a.jsonl"], card("- data_files: /etc/passwd"), "not there"),
        (
            ["a.jsonl"],
            card("- config_name: one\n  data_files: a.jsonl\n- config_name: two\n  data_files: a.jsonl"),
            "one, two",
        ),
        (["a.jsonl"], "---\na: [\n---\n", "not YAML"),
    ],
)
def test_a_folder_that_is_no_data_set_says_why(names: list[str], readme: str | None, reason: str) -> None:
    with pytest.raises(NoDataSet, match=reason):
        data_files(names, readme)


@pytest.mark.parametrize(
    ("split", "held_out"),
    [
        ("train", False),
        ("train_sft", False),
        ("latest", False),
        ("test", True),
        ("validation", True),
        ("dev_hard", True),
    ],
)
def test_a_split_is_held_out_where_its_name_says_so(split: str, held_out: bool) -> None:
    assert DataFile("rows.jsonl", split).held_out == held_out


def test_what_is_written_is_found_again() -> None:
    names = [shard_name(split, number, 2) for split in ("train", "test") for number in range(2)]
    assert {one.split for one in data_files(names, None)} == {"train", "test"}
