"""`tunemill search`: look at what came in."""

import shlex
import sys
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from tunemill.cli.output import cell, print_json, safe, say, say_text, when
from tunemill.cli.output import fields as say_fields
from tunemill.cli.query_command import QueryCommand
from tunemill.indexer.grammar import HELP
from tunemill.indexer.search import Sort

Match = Literal["all", "any"]

_SHOWN_CHARACTERS = 300
_SHOWN_FACETS = 6
_BLOCKS = " ▁▂▃▄▅▆▇█"
_MOST_BLOCKS = 100
_OF_A_SEARCH = {  # by the parameter that holds it: how it is said
    "query": "query",
    "similar": "--similar",
    "everything": "--all",
    **{name: f"--{name}" for name in ("limit", "cursor", "sort", "match", "fields")},
}

CLASS = QueryCommand
EPILOG = f"The query language:\n\n{HELP}"


def search(
    said: typer.Context,
    query: Annotated[str, typer.Argument(help='As in: "long division" tag:topic:math -tag:pii:* model:gpt-4o*')] = "",
    *,
    limit: Annotated[int, typer.Option(help="How many logs to show.", min=1)] = 10,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    sort: Annotated[Sort, typer.Option(help="What comes first; logs without such a value come last.")] = "relevance",
    match: Annotated[
        Match, typer.Option(help="any: after the logs with all words those with some. all: only the former.")
    ] = "any",
    fields: Annotated[str | None, typer.Option(help="Only these of each log, as in: log_id,prompt,cost_usd")] = None,
    similar: Annotated[str | None, typer.Option(metavar="ID", help="In place of a query: logs like this one.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every log that matches, as it is kept, one JSON object a line.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Search the logs. Without a query: all of them."""
    if similar is not None:
        _refuse_others(said, "--similar", {"similar", "limit"})
    if everything:
        _refuse_others(said, "--all", {"everything", "query"})
    with connect(url, key) as api:
        if similar is not None:
            _show_similar(api.get("/similar", log_id=similar, limit=limit), as_json=as_json)
            return
        if everything:
            for some in api.stream("/search/export", q=query):
                sys.stdout.buffer.write(some)
            return
        page = api.get("/search", q=query, limit=limit, cursor=cursor, sort=sort, match=match, fields=fields)
    if as_json:
        print_json(page)
        return
    _show_hits(page, whole=fields is None)
    _show_counts(page)


def _refuse_others(said: typer.Context, option: str, takes: Collection[str]) -> None:
    """Refuse what would have no effect beside an option.

    Raises:
        typer.BadParameter: something of a search was said that the option does not take.
    """
    sources = {name: said.get_parameter_source(name) for name in _OF_A_SEARCH if name not in takes}
    unused = [_OF_A_SEARCH[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if unused:
        raise typer.BadParameter(f"{option} takes no {' and no '.join(unused)}")


def _show_hits(page: Mapping[str, Any], *, whole: bool) -> None:
    before = "all"
    for hit in page["hits"]:
        if (match := hit.get("match", before)) != before:
            say(f"-- some of the words, not all: {page['wider']['total']} logs --")
            say()
            before = match
        if whole:
            _show_hit(hit)
        else:
            say_fields(hit)
            say()


def _show_counts(page: Mapping[str, Any]) -> None:
    wider = page.get("wider")
    say(f"{page['total']} logs{' with all words' if wider else ''}")
    if wider and not page["hits"]:
        say(f"{wider['total']} have one of them: tunemill search {shlex.quote(wider['q'])}")
    if shape := over_time(page.get("histogram")):
        say(f"  time: {shape}")
    for name, counts in page.get("facets", {}).items():
        _show_facet(name, counts)
    if page.get("cursor"):
        say(f"more: --cursor {page['cursor']}")


def _show_similar(found: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for hit in found["similar"]:
        _show_hit(hit)
    say(f"{len(found['similar'])} similar logs")
    near = [f"{one['log_id']} {one['similarity']:.2f}" for one in found["near_duplicates"]]
    say(f"near-duplicates: {', '.join(near) or 'none'}")


def over_time(histogram: Mapping[str, Any] | None) -> str | None:
    """A histogram as one line: blocks between its first and its last moment; None where it has no shape or too many buckets."""
    buckets = dict(histogram["buckets"]) if histogram else {}
    if histogram is None or len(buckets) < 2:
        return None
    first, last, step = min(buckets), max(buckets), histogram["bucket_ms"]
    if (last - first) // step >= _MOST_BLOCKS:
        return None
    largest = max(buckets.values())
    blocks = [_block(buckets.get(start, 0), largest) for start in range(first, last + 1, step)]
    return f"{when(first)} {''.join(blocks)} {when(last)}"


def _block(count: int, largest: int) -> str:
    return _BLOCKS[-(-count * (len(_BLOCKS) - 1) // largest)]


def _show_hit(hit: Mapping[str, Any]) -> None:
    head = (hit["log_id"], when(hit["ts_ms"]), hit.get("app"), hit.get("model"), cell(hit.get("tags") or None))
    say_text(Text(safe("  ".join(cell(part) for part in head)), style="bold"))
    fragments = hit.get("highlights") or [[[_start(hit), False]]]
    for fragment in fragments:
        say_text(_fragment(fragment))
    say()


def _start(hit: Mapping[str, Any]) -> str:
    """What to show of a hit whose match is not in its text."""
    text = "\n".join(str(hit[name]) for name in ("prompt", "answer") if hit.get(name))
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _fragment(pieces: list[Any]) -> Text:
    shown = Text("    ")
    for text, matched in pieces:
        shown.append(safe(text).replace("\n", "\n    "), style="bold yellow" if matched else None)
    return shown


def _show_facet(name: str, counts: list[Mapping[str, Any]]) -> None:
    if counts:
        shown = ", ".join(f"{count['value']} {count['count']}" for count in counts[:_SHOWN_FACETS])
        say(f"  {name}: {shown}{', …' if len(counts) > _SHOWN_FACETS else ''}")
