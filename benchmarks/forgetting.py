"""What a task costs: the gain on held-out rows against what is forgotten of general questions, by method and by remedy.

Each run is the product's own, from a dataset version to its result. A finished run is one line of `--out`, and is not run again:
quiet minutes add up. The plot has the gain to the right and forgetting upwards.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from fakes.tiny_model import publish_dataset, save_tiny_model

from benchmarks.forgetting_plot import Point, plot
from benchmarks.harness import RESULTS, machine
from tunemill.examples.smollm2 import cache_folder
from tunemill.schemas.ids import canonical_json
from tunemill.trainer.attempt import run
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.identity import identify_base
from tunemill.trainer.job import Listener, Order, Speaker, WorkFolder
from tunemill.trainer.recipe import Recipe, resolve

TINY = "tiny"  # a random model, for trying this out: its figures mean nothing
ROWS = 200  # the last fifth is held out
LEAST_ROWS = 10
METHODS = ("full", "lora", "qlora")
ARMS: dict[str, dict[str, Any]] = {  # against forgetting
    "plain": {"replay_share": 0.0},
    "replay": {"replay_share": 0.1},
    "base_answers": {"replay_share": 0.3, "replay_answers": "base"},
    "kl": {"replay_share": 0.0, "kl_to_base": 0.1},
    "both": {"replay_share": 0.3, "replay_answers": "base", "kl_to_base": 0.1},
}
_USUAL = {"eval_generate_rows": 120, "max_new_tokens": 48}  # every packaged question is asked
_INTENTS = {
    "refund": (
        "I want my money back for order {}",
        "please refund {}, it arrived broken",
        "{} was wrong, I need a refund",
    ),
    "delivery": ("where is my parcel {}?", "order {} has not arrived yet", "tracking for {} shows nothing"),
    "account": ("I cannot log in, user {}", "reset the password of account {}", "change the email on account {}"),
    "cancel": ("stop my subscription {}", "please cancel order {} now", "end contract {} today"),
}

Row = dict[str, Any]


def made_tickets(count: int, seed: int = 0) -> list[Row]:
    """Support tickets to be answered with JSON: nothing that a small chat model can do before."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        intent, number = draw.choice(list(_INTENTS)), f"{draw.choice('ABCDXYZ')}{draw.randint(100, 999)}"
        hurry = draw.choice(["", "urgent: ", "asap! "])
        asked = hurry + draw.choice(_INTENTS[intent]).format(number)
        answer = json.dumps({"intent": intent, "ref": number, "prio": "high" if hurry else "normal"})
        said = (("system", "Route the ticket."), ("user", asked), ("assistant", answer))
        rows.append({"messages": [{"role": role, "content": text} for role, text in said], "tools": None})
    return rows


def one_run(base: Path, rows: Sequence[Row], knobs: Mapping[str, Any], shared: Path) -> dict[str, Any]:
    """Train on the first four fifths and measure on the rest; the base model is measured once per method.

    Args:
        shared: where that is kept between runs.
    """
    stored = [{**row, "tools": json.dumps(row["tools"]) if row["tools"] else None} for row in rows]
    cut = len(rows) - len(rows) // 5
    train, test = stored[:cut], stored[cut:]
    with tempfile.TemporaryDirectory() as place:
        url, digest = publish_dataset(Path(place) / "files", "rows", {"train": train, "test": test})
        folder = WorkFolder(Path(place) / "run")
        folder.path.mkdir()
        for kept in (folder.before, folder.replay):
            if (shared / kept.name).exists():
                shutil.copy(shared / kept.name, kept)
        names = {"run_id": "run-1", "attempt": 1, "project": "default", "name": "rows", "version": 1}
        order = Order(**names, digest=digest, manifest_url=url, recipe=resolve({"base": str(base), **knobs}))
        with closing(Speaker(folder.progress(1))) as speaker:
            run(order, folder, speaker, lambda: False)
        shared.mkdir(parents=True, exist_ok=True)
        for kept in (folder.before, folder.replay):
            if kept.exists():
                shutil.copy(kept, shared / kept.name)
        done = next(line for line in Listener(folder.progress(1)).lines() if line.kind == "done")
        return {"status": done.message, "train_s": round(done.data["seconds"], 1), **done.data["result"]}


def in_short(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result's figures."""
    metrics, forgotten = result["metrics"], result["forgetting"]
    loss = metrics["loss"]
    return {
        "status": result["status"],
        "gain_nats": -loss["change"],
        "gain_interval": [-loss["high"], -loss["low"]],
        "exact_match": metrics["exact_match"]["after"],
        "f1": metrics["f1"]["after"],
        "retention_rise_nats": forgotten["loss"]["change"],
        "retention_rise_interval": [forgotten["loss"]["low"], forgotten["loss"]["high"]],
        "retention_f1_change": forgotten["f1"]["change"],
        "retention_could": forgotten["could"],
        "retention_lost": forgotten["lost_rows"],
        "retention_learned": forgotten["learned_rows"],
        "train_s": result["train_s"],
    }


def compared(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By method and arm the mean over seeds, beside the same method's best gain and the forgetting of its plain runs.

    Of the same method: QLoRA begins at the loss of a 4-bit base, so that its gains are larger and its model is no better.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for one in runs:
        groups.setdefault(f"{one['key']['method']}/{one['key']['arm']}", []).append(one)
    means = {
        name: {key: sum(one[key] for one in members) / len(members) for key in ("gain_nats", "retention_rise_nats")}
        for name, members in groups.items()
    }
    found: dict[str, dict[str, Any]] = {}
    for name, mean in means.items():
        method = name.partition("/")[0]
        best = max(other["gain_nats"] for of, other in means.items() if of.partition("/")[0] == method)
        plain = means.get(f"{method}/plain", {}).get("retention_rise_nats")
        found[name] = {
            **{key: round(value, 4) for key, value in mean.items()},
            "seeds": len(groups[name]),
            "share_of_best_gain": round(mean["gain_nats"] / best, 4) if best > 0 else None,
            "share_of_plain_forgetting": round(mean["retention_rise_nats"] / plain, 4) if plain and plain > 0 else None,
        }
    return found


def default_arm() -> str | None:
    """Which arm a recipe is that says nothing of forgetting."""
    usual = Recipe(base="-")
    fields = ("replay_share", "replay_answers", "kl_to_base")
    return next(
        (
            arm
            for arm, knobs in ARMS.items()
            if all(getattr(resolve({"base": "-", **knobs}), field) == getattr(usual, field) for field in fields)
        ),
        None,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not finished, compare, plot, report."""
    arguments = _arguments(argv)
    warnings.simplefilter("ignore")
    rows = general_rows("retention", str(arguments.rows)) if arguments.rows else made_tickets(ROWS)
    if len(rows) < LEAST_ROWS:
        raise SystemExit(f"{arguments.rows} has {len(rows)} rows, and fewer than {LEAST_ROWS} show nothing")
    digest = hashlib.sha256(canonical_json(rows)).hexdigest()[:16]
    out: Path = arguments.out
    with tempfile.TemporaryDirectory() as place:
        base = _tiny(Path(place)) if arguments.base == TINY else Path(arguments.base).expanduser()
        weights = identify_base(str(base), None).weights[:16]
        common = {"base": base.name, "weights": weights, "rows_sha256": digest, "knobs": arguments.recipe}
        kept = out.with_suffix(".kept") if arguments.base != TINY else Path(place)  # another random model each time
        for seed, method, arm in itertools.product(arguments.seeds, arguments.methods, arguments.arms):
            key = {**common, "method": method, "arm": arm, "seed": seed}
            if any(one["key"] == key for one in _finished(out)):
                continue
            started = time.perf_counter()
            knobs = {**_USUAL, **arguments.recipe, **ARMS[arm], "method": method, "seed": seed}
            shared = kept / hashlib.sha256(canonical_json({**common, "method": method})).hexdigest()[:16]
            line = {"key": key, **in_short(one_run(base, rows, knobs, shared))}
            line["seconds"] = round(time.perf_counter() - started, 1)
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{method} {arm} seed {seed}: {json.dumps(line)}", flush=True)
    runs = [one for one in _finished(out) if {name: one["key"][name] for name in common} == common]
    _tell(runs, arguments, common)


def _tell(runs: Sequence[dict[str, Any]], arguments: argparse.Namespace, common: Mapping[str, Any]) -> None:
    groups, default = compared(runs), f"lora/{default_arm()}"
    for name, group in groups.items():
        print(f"{name}{' (the default)' if name == default else ''}: {json.dumps(group)}")
    found = {"benchmark": "forgetting", "default": default, "groups": groups, "runs": list(runs)}
    found |= {"settings": dict(common), "machine": machine()}
    arguments.out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    points = [Point(*_group(one).split("/"), one["gain_nats"], one["retention_rise_nats"]) for one in runs]
    arguments.out.with_suffix(".svg").write_text(plot(points))
    if arguments.json:
        print(json.dumps(found))


def _group(one: Mapping[str, Any]) -> str:
    return f"{one['key']['method']}/{one['key']['arm']}"


def _finished(out: Path) -> list[dict[str, Any]]:
    """The runs of earlier times; a line that was being written when the process died is taken out of the file."""
    whole, newline, torn = out.read_bytes().rpartition(b"\n") if out.exists() else (b"", b"", b"")
    if torn:
        out.write_bytes(whole + newline)
    return [json.loads(line) for line in whole.split(b"\n") if line]


def _usual_base() -> str:
    folder = cache_folder()
    return str(folder) if (folder / "config.json").exists() else TINY


def _tiny(folder: Path) -> Path:
    texts = [message["content"] for row in general_rows("replay", "packaged") for message in row["messages"]]
    return save_tiny_model(folder / TINY, texts)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="OpenAI chat rows, JSON lines; without it made tickets")
    parser.add_argument(
        "--base",
        default=_usual_base(),
        help="a model folder, or tiny; without it the demo's model where that was fetched",
    )
    parser.add_argument("--methods", type=_names(METHODS), default=["lora"], help=f"of {','.join(METHODS)}")
    parser.add_argument("--arms", type=_names(tuple(ARMS)), default=list(ARMS), help="separated by commas")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument("--recipe", type=json.loads, default={}, help='more knobs, such as {"learning_rate": 1e-4}')
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS / "forgetting.jsonl",
        help="a line for each finished run; summary and plot lie beside",
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    return parser.parse_args(argv)


def _names(known: Sequence[str]) -> Any:
    def names(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := [name for name in wanted if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]}: known are {', '.join(known)}")
        return wanted

    return names


if __name__ == "__main__":
    main()
