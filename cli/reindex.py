"""`tunemill reindex`: the search index made anew from the stored logs and what people did to them."""

from tunemill.cli.client import DEFAULT_URL, AsJson, Key, Url, at, connect
from tunemill.cli.jobs import follow


def reindex(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Make the search index anew from the stored logs and people's edits, and show how far it is.

    Searches and new logs go on meanwhile. Ctrl-C leaves it running.
    """
    with connect(url, key) as api:
        job_id = api.post("/jobs", {"kind": "reindex"})["job_id"]
        follow(api, at("jobs", job_id), again=f"tunemill jobs watch {job_id}", as_json=as_json)
