"""A version with some rows changed: what a version made from nothing would be, with only the buckets written that changed."""

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunemill.curator_api.errors import DamagedFile
from tunemill.curator_api.parts import StoredRow, order
from tunemill.curator_api.publish_files import Named, Written, name, write_rows
from tunemill.curator_api.rewrite import Change, Rewritten, rewrite
from tunemill.curator_api.rows import Row, RowMessage
from tunemill.curator_api.store import Files
from tunemill.schemas.manifest import SPLITS, SourcesManifest, sources_file
from tunemill.schemas.origin import read_origins

PLACE = "datasets/p/d"


def stored(number: int, *more_keys: str, question: str | None = None, answer: str = "yes") -> StoredRow:
    key = f"log-{number:05}"
    row = Row(
        row_key=key,
        log_id=key,
        conversation=f"{number:016x}",
        messages=(
            RowMessage(role="user", content=question or f"question {number}"),
            RowMessage(role="assistant", content=answer),
        ),
        tools=None,
        log_ids=(key, *more_keys),
    )
    return of(row, (key, *more_keys), "test" if number % 7 == 0 else "train")


def of(row: Row, keys: tuple[str, ...], split: str) -> StoredRow:
    return StoredRow(row=row, row_id=row.row_id(), row_keys=keys, place=int.from_bytes(row.place()[:8]), split=split)


def write(files: Files, rows: Iterable[StoredRow]) -> tuple[Written, Named]:
    ordered = sorted(rows, key=order)
    splits = {split: sum(row.split == split for row in ordered) for split in SPLITS}
    made = write_rows(files, PLACE, [ordered], splits=splits, shape="chat", balance={})
    return made, name(files, PLACE, made)


def change(files: Files, made: tuple[Written, Named], changes: Mapping[str, Change], **more: Any) -> Rewritten:
    sources = msgspec.json.decode(Path(made[1].sources_url).read_bytes(), type=SourcesManifest)
    return rewrite(files, PLACE, made[0].manifest, sources, changes, **more)


def answers(answer: str) -> Callable[[Row], Row]:
    def edited(row: Row) -> Row:
        return msgspec.structs.replace(row, messages=(*row.messages[:-1], RowMessage(role="assistant", content=answer)))

    return edited


def asks(question: str) -> Callable[[Row], Row]:
    def edited(row: Row) -> Row:
        return msgspec.structs.replace(row, messages=(RowMessage(role="user", content=question), row.messages[-1]))

    return edited


def listed(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_one_edited_answer_of_a_thousand_writes_one_part_and_its_sources(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    made = write(files, [stored(number) for number in range(1_000)])
    assert 30 < len(made[0].manifest.parts) < 50
    before = listed(tmp_path)
    new = change(files, made, {"log-00500": answers("no")})
    fresh = listed(tmp_path) - before
    assert sorted(Path(path).parent.name for path in fresh) == ["parts", "sources"]
    assert (new.removed, new.changed) == (0, 1)
    assert new.rows.written_bytes == sum((tmp_path / path).stat().st_size for path in fresh)
    whole = write(
        Files(str(tmp_path / "other")),
        [stored(number, answer="no" if number == 500 else "yes") for number in range(1_000)],
    )
    assert name(files, PLACE, new.rows).digest == whole[1].digest


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(0, 99), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_whatever_is_changed_the_result_is_what_publishing_from_nothing_gives(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, answered: int, asked: int, gone: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    files = Files(str(folder))
    rows = {f"log-{number:05}": stored(number) for number in range(count)}
    drawn = random.Random(seed).choices(list(rows), k=answered + asked + gone)
    changes: dict[str, Change] = {}
    for at, key in enumerate(drawn):
        number = int(key[-5:])
        if at < answered:
            changes[key], rows[key] = answers("no"), stored(number, answer="no")
        elif at < answered + asked:
            changes[key], rows[key] = asks(f"other {number}"), stored(number, question=f"other {number}")
        else:
            changes[key] = None
            rows.pop(key, None)
    made = write(files, [stored(number) for number in range(count)])
    new = change(files, made, changes)
    whole, _ = write(Files(str(folder / "other")), rows.values())
    assert new.rows.manifest == whole.manifest
    assert new.rows.sources == whole.sources
    assert new.rows.keys.tobytes() == whole.keys.tobytes()
    assert new.removed == count - len(rows)


def test_a_row_that_two_logs_say_stays_with_the_other_and_forgets_the_one(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    both = stored(1, "twin")
    row = msgspec.structs.replace(both.row, ts_ms=5, model="m")
    made = write(files, [msgspec.structs.replace(both, row=row), stored(2)])
    new = change(files, made, {"log-00001": None})
    again = change(files, (new.rows, name(files, PLACE, new.rows)), {"twin": None})
    assert (new.removed, again.removed) == (0, 1)
    assert new.rows.manifest == made[0].manifest
    origins = [read_origins((tmp_path / PLACE / f"sources/{sha}.jsonl.zst").read_bytes()) for sha in new.rows.sources]
    assert "log-00001" not in str(origins)
    (kept,) = [one for some in origins for one in some if "twin" in one.row_keys]
    assert (kept.row_keys, kept.log_ids, kept.ts_ms, kept.model) == (("twin",), ("twin",), None, None)


def test_what_was_made_of_a_log_leaves_with_it_though_its_key_is_another(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    pair = stored(1)
    row = msgspec.structs.replace(pair.row, log_ids=("chosen", "rejected"))
    made = write(files, [msgspec.structs.replace(pair, row=row), stored(2)])
    seen: list[tuple[int, int]] = []
    new = change(files, made, {"rejected": None}, see=lambda left, came: seen.append((len(left), len(came))))
    assert (new.removed, new.rows.manifest.rows, seen) == (1, 1, [(1, 0)])
    assert change(files, made, {"unknown": None}).rows.written_bytes == 0


def test_an_edit_that_repeats_another_row_becomes_one_with_it(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    made = write(files, [stored(1), stored(2)])
    new = change(files, made, {"log-00002": asks("question 1")})
    assert (new.rows.manifest.rows, new.removed) == (1, 1)
    assert change(files, (new.rows, name(files, PLACE, new.rows)), {"log-00002": None}).removed == 0


@pytest.mark.parametrize(
    ("edits", "splits"),
    [
        ({1: "question 7"}, {"train": 1, "test": 1}),
        ({7: "question 1"}, {"train": 2, "test": 0}),
        ({1: "other", 7: "other"}, {"train": 2, "test": 0}),
        ({1: "question 7", 7: "other"}, {"train": 2, "test": 1}),
    ],
)
def test_no_edit_puts_the_same_row_on_both_sides(tmp_path: Path, edits: dict[int, str], splits: dict[str, int]) -> None:
    files = Files(str(tmp_path))
    made = write(files, [stored(1), stored(2), stored(7)])
    new = change(files, made, {f"log-{number:05}": asks(question) for number, question in edits.items()})
    assert new.rows.manifest.splits == splits
    beside = zip(new.rows.manifest.parts, new.rows.sources, strict=True)
    origins = [
        (part.split, one)
        for part, sources in beside
        for one in read_origins((tmp_path / PLACE / sources_file(sources)).read_bytes())
    ]
    assert all(split == ("test" if one.conversation == f"{7:016x}" else "train") for split, one in origins)
    both = change(files, (new.rows, name(files, PLACE, new.rows)), {f"log-{number:05}": None for number in (1, 7)})
    assert both.rows.manifest.splits == {"train": 1, "test": 0}  # it stood there under both keys


def test_a_damaged_part_is_found_before_anything_is_made_of_it(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    made = write(files, [stored(1)])
    part = tmp_path / PLACE / made[0].manifest.parts[0].path
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedFile, match="was changed"):
        change(files, made, {"log-00001": None})
