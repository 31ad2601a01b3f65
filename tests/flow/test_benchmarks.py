"""The benchmarks run and say what they promise to; their figures are not judged here."""

import hashlib
import json
import subprocess
import sys
from math import log2
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WRONG_LABELS = """
import sys
from pathlib import Path
from benchmarks.rules import Rules, WrongLabels, read, tagged
for path in sys.argv[1:]:
    try:
        tagged(read(Path(path)), Rules([]))
    except WrongLabels as wrong:
        print(wrong)
"""


def started(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A benchmark as its user starts it."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--json"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def run(name: str, *options: str) -> dict[str, Any]:
    """The JSON that a benchmark ends with."""
    done = started(name, *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_embedded_ingest_has_both_ratios() -> None:
    found = run("ingest", "--engine", "embedded", "--logs", "200", "--rounds", "1")
    assert found["ratio_tantivy"] > 0
    assert found["ratio_loop"] > 0
    assert found["settings"]["logs_per_round"] == 200


def test_the_stream_alone_is_measured_on_logs_of_4_kb_and_200_rules() -> None:
    found = run("ingest", "--engine", "stub", "--logs", "200", "--rounds", "1")
    assert found["logs_per_s_per_core"] > 0
    assert 4_000 < found["long_log_bytes"] < 6_000


def test_an_engine_that_is_not_there_is_named() -> None:
    done = started("ingest", "--engine", "solr")
    assert done.returncode == 2
    assert "elasticsearch, embedded, stub" in done.stderr


def test_every_rule_that_is_on_is_counted_on_anybodys_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    called = [{"role": "user", "content": "What is 17% of 2,340?"}, {"role": "assistant", "content": "397.8"}]
    lines = [
        {"text": "Translate the following sentence into German: The bus is late.", "tags": ["topic:translation"]},
        {"text": "Good morning!", "tags": ["topic:translation"]},
        {"text": "Write a Python function that reverses a list.", "tags": []},
        {"messages": called, "tags": ["topic:math", "topic:of-our-own"]},
    ]
    labels.write_text("\n\n".join(map(json.dumps, lines)))
    found = run("rules", "--labels", f"{labels}", "--rounds", "1")
    tags = found["tags"]
    assert tags["topic:translation"] == {"tp": 1, "fp": 0, "fn": 1, "precision": 1.0, "recall": 0.5}
    assert tags["topic:code"] == {"tp": 0, "fp": 1, "fn": 0, "precision": 0.0, "recall": None}
    assert (tags["topic:math"]["tp"], tags["topic:of-our-own"]["fn"]) == (1, 1)
    assert {rule["tag"] for rule in found["rules"].values()} <= tags.keys()
    assert {"pii:email", "secret:jwt", "cost:high"} <= tags.keys() & set(found["unlabelled"])
    assert sum(rule["matched"] for rule in found["rules"].values() if rule["tag"] == "topic:code") >= 1
    assert min(figure["low"] for figure in found["figures"].values()) > 0
    assert {"secret:*", "lang:*", "pii:*", "topic:code", "all rules together"} <= found["us_per_log"].keys()


def test_labels_that_cannot_be_used_are_named_to_who_asked(tmp_path: Path) -> None:
    labels, missing = tmp_path / "labels.jsonl", tmp_path / "missing.jsonl"
    labels.write_text('{"text": "Hello", "tags": []}\n\n{"text": {"de": "Hallo"}, "tags": []}\n')
    for path, said in ((labels, f"{labels}, line 3: "), (missing, f"{missing}: No such file or directory\n")):
        done = started("rules", "--labels", f"{path}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
        assert (len(done.stderr.splitlines()), "Hallo" in done.stderr) == (1, False)


def test_labels_may_name_a_text_by_its_digest(tmp_path: Path) -> None:
    asked = "Write a Python function that reverses a list."
    corpus, labels = tmp_path / "logs.jsonl", tmp_path / "labels.jsonl"
    corpus.write_text(json.dumps({"messages": [{"role": "user", "content": asked}]}) + "\n")
    line = {"sha256": hashlib.sha256(asked.encode()).hexdigest()[:16], "tags": ["topic:code"]}
    labels.write_text(json.dumps(line))
    found = run("rules", "--labels", f"{labels}", "--corpus", f"{corpus}", "--rounds", "1")
    assert found["tags"]["topic:code"]["tp"] == 1


def test_what_is_wrong_with_labels_is_said(tmp_path: Path) -> None:
    """All kinds in one process, whose start costs more than they do."""
    wrong = {
        "cut.jsonl": (b'\n{"text": "Hello', ", line 2: no JSON: "),
        "untagged.jsonl": (b'{"text": "Hello"}', ", line 1: expected an object with `tags`"),
        "one-tag.jsonl": (b'{"text": "Hello", "tags": "topic:math"}', ", line 1: expected an object with `tags`"),
        "list.jsonl": (b'["Hello"]', ", line 1: expected an object with `tags`"),
        "no-log.jsonl": (b'{"note": "Hello", "tags": []}', ", line 1: the fields are those of no known shape"),
        "unknown.jsonl": (b'{"sha256": "0123456789abcdef", "tags": []}', ", line 1: no log of --corpus"),
        "empty.jsonl": (b"\n", ": it has no lines"),
        "torn.jsonl.gz": (b"\x1f\x8b", ": "),
        "plain.jsonl.gz": (b"{}", ": Not a gzipped file"),
    }
    for name, (content, _) in wrong.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", WRONG_LABELS, *(f"{tmp_path / name}" for name in wrong)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, (name, (_, reason)) in zip(said, wrong.items(), strict=True):
        assert line.startswith(f"{tmp_path / name}{reason}")


def test_no_rows_are_nothing_to_measure() -> None:
    done = started("snapshot", "--rows", "0")
    assert (done.returncode, "--rows: at least 1" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_publishing_is_measured_against_an_export_by_hand_and_a_small_change_against_a_whole_version() -> None:
    found = run("snapshot", "--engine", "embedded", "--rows", "300", "--rounds", "1", "--sizes", "100,600")
    assert found["rows_per_s"] > 0
    assert found["ratio_hand_written"] > 0
    assert found["peak_bytes_whole"] > found["peak_bytes"] > 0
    assert found["small_change"]["time_ratio"] > 0
    assert 0 < found["small_change"]["bytes_ratio"] < 1
    assert found["small_change"]["changed"] == 1
    assert set(found["growth"]["seconds"]) == set(found["growth"]["peak_bytes"]) == {"100", "600"}
    assert 0 < found["growth"]["exponent"] < 5
    assert "the index dump" in found["settings"]["hand_written"]


def test_latency_of_the_embedded_engine() -> None:
    found = run("latency", "--engine", "embedded", "--seconds", "1", "--rounds", "1")
    assert 0 < found["figures"]["p50"]["median"] <= found["figures"]["p99"]["median"]
    assert found["settings"]["searched_logs"] >= 5


def test_search_is_measured_as_the_index_grows_and_over_http() -> None:
    found = run("search", "--engine", "embedded", "--sizes", "300,1200", "--asks", "5")
    assert len(found["ms"]) == len(found["exponent"]) == len(found["api_adds_ms"]) == 7
    for kind, sizes in found["ms"].items():
        assert 0 < sizes["1200"]["p50"] <= sizes["1200"]["p99"], kind
    assert found["vocabulary"]["300"] < found["vocabulary"]["1200"]
    assert set(found["memory_mib"]) == {"idle", "with 1200 logs"}


def test_quality_is_that_of_the_first_ten_and_of_the_first_fifty(tmp_path: Path) -> None:
    texts = {f"refund {'of the order ' * number}": f"{number}" for number in range(12)}  # the longer, the worse
    corpus, judgements = tmp_path / "logs.jsonl", tmp_path / "judgements.json"
    lines = [json.dumps({"messages": [{"role": "user", "content": text}]}) + "\n" for text in texts]
    corpus.write_text("".join(lines * 2))
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    graded = {
        "refund": {digests[1]: 3, digests[11]: 2},  # the second, and one after the tenth
        'refund: "sum': {digests[0]: 1},  # no query, but its words, and no log has both
        "sum": {digests[0]: 0},  # nothing is relevant: left out
    }
    judgements.write_text(json.dumps(graded))
    found = run("relevance", "--corpus", f"{corpus}", "--judgements", f"{judgements}", "--engine", "embedded")
    gained, best = 7 / log2(3), 7 + 3 / log2(3)
    assert found["queries"] == 2
    as_people_ask = {"ndcg_at_10": pytest.approx((gained / best + 1) / 2), "recall_at_50": 1, "nothing_found": 0}
    assert found["engines"] == {"embedded": as_people_ask}
    assert found["all_words"] == {
        "embedded": {"ndcg_at_10": pytest.approx(gained / best / 2), "recall_at_50": 0.5, "nothing_found": 1}
    }
    assert found["words_by_or"]["embedded"]["recall_at_50"] == 1


@pytest.mark.parametrize("name", ["relevance", "parity"])
def test_a_corpus_that_is_not_there_is_said(name: str) -> None:
    done = started(name, "--corpus", "none.jsonl")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert "'--corpus'" in done.stderr and "none.jsonl" in done.stderr


def test_our_judgements_grade_from_1_to_3() -> None:
    judgements = json.loads((ROOT / "benchmarks/labels/relevance.json").read_text(encoding="utf-8"))
    assert len(judgements) == 66
    assert {grade for grades in judgements.values() for grade in grades.values()} == {1, 2, 3}


def test_a_tag_for_all_logs_is_measured_against_a_bare_loop() -> None:
    found = run("bulk", "--logs", "600", "--rounds", "1")
    assert found["ratios"]["ratio_loop"] > 0
    assert found["figures"]["undo"]["median"] > 0


def test_rows_are_prepared_alike_before_their_preparation_is_compared() -> None:
    result = run("prepare", "--rows", "24", "--rounds", "1")

    assert result["equal_rows"] == 24
    assert result["rows_per_s"].keys() == {"ours", "trl, 1 process", "trl, 2 processes"}
    padded, batched, packed = result["waste"].values()
    assert padded > batched > packed


def test_making_an_index_anew_is_measured_against_writing_it() -> None:
    found = run("reindex", "--logs", "500", "--rounds", "1")
    assert set(found["ratios"]) == {"ratio_write"}
    assert found["ratios"]["ratio_write"] > 0
    assert found["settings"]["logs"] == 500


def test_a_backfill_is_measured_against_a_bare_loop() -> None:
    found = run("backfill", "--logs", "600", "--rounds", "1")
    assert found["ratios"]["ratio_loop"] > 0
    assert 0 < found["settings"]["changed"] < 600


def test_what_learned_tags_promise_is_held_against_what_they_keep() -> None:
    labels = ROOT / "benchmarks" / "labels"
    found = run(
        "learned_tags",
        "--labels",
        f"{labels}/topics.dev.jsonl",
        "--fresh",
        f"{labels}/topics.test.jsonl",
        "--rounds",
        "1",
    )
    learned = found["tags"]["topic:math"]
    assert learned["yes"] >= 10
    assert 0 < learned["kept"]["precision"]["share"] <= 1
    assert found["figures"]["1 learned tags"]["median"] > found["figures"]["0 learned tags"]["median"]


@pytest.mark.parametrize(
    ("name", "options", "side", "ratio"),
    [
        ("decode", ("--logs", "50"), "openai_pair", "openai_pair"),
        ("dedup", ("--rows", "100"), "tunemill", "tunemill / datasketch_128"),
    ],
)
def test_what_has_a_rival_has_a_ratio(name: str, options: tuple[str, ...], side: str, ratio: str) -> None:
    found = run(name, *options, "--rounds", "1")
    assert found["figures"][side]["median"] > 0
    assert found["ratios"][ratio] > 0


def test_the_profile_puts_all_cpu_down_to_stages() -> None:
    found = run("profile", "--logs", "6000")
    for name, stages in found["us_per_log"].items():
        assert {"decode", "rules", "document"} <= set(stages), name
        assert sum(stages.values()) == pytest.approx(found["figures"][name]["median"], rel=0.01)


def test_rivals_are_pinned_exactly_and_name_no_index() -> None:
    locks = list((ROOT / "benchmarks" / "rivals").glob("*.txt"))
    assert locks
    lines = [line for lock in locks for line in lock.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith(("#", "-"))] == []


def test_training_is_measured_against_trl_with_its_losses_and_its_memory() -> None:
    found = run("train", "--methods", "lora", "--steps", "2", "--rounds", "1")
    measured = found["methods"]["lora"]
    assert measured["tokens_ratio_trl"] > 0
    assert measured["max_loss_difference"] < 1e-4
    assert min(measured["peak_bytes"], measured["peak_bytes_trl"]) > 0
    assert set(found["stages_s"]) == {"start", "read_and_render", "load_and_measure", "first_step"}
    assert min(found["event_to_first_step_s"], *found["stages_s"].values()) > 0
    assert 0 < found["padding_trl"] < 1


def test_the_script_for_a_gpu_runs_on_a_tiny_shape() -> None:
    found = run("train_gpu", "--shape", "tiny", "--steps", "4", "--rows-per-step", "2", "--no-trl")
    assert found["figures"]["ours"]["median"] > 0
    assert found["settings"]["parameters"] > 0
    assert set(found["mfu_of_an_h100"]) == {"ours"}
