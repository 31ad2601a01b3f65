"""What an erasure does to training runs, blocking: those that are not over are stopped, reports and samples lose their rows."""

from contextlib import suppress

import msgspec
from sqlalchemy import select

from tunemill.curator_api import model_store, run_store
from tunemill.curator_api.curator import Curator
from tunemill.curator_api.errors import DamagedFile, Finished
from tunemill.curator_api.exposure import Held, exposures, saw_files
from tunemill.curator_api.receipt import ExposedRun, RedactedVersion
from tunemill.registry.tables import redactions, runs
from tunemill.schemas.ids import canonical_json
from tunemill.schemas.records import ENDED
from tunemill.schemas.run_report import REPORT, SAMPLES_FILE, manifest_with, without_rows


def held_by(curator: Curator, hit: tuple[RedactedVersion, ...]) -> Held:
    """The digests that held a log of these versions: all that they had before it was taken out."""
    held: dict[tuple[str, int], set[str]] = {}
    with curator.registry.connect() as connection:
        for one in hit:
            earlier = select(redactions.c.replaces_digest).where(
                redactions.c.project == curator.project,
                redactions.c.name == one.name,
                redactions.c.version == one.version,
                redactions.c.revision <= one.revision,
            )
            held.setdefault((one.name, one.version), set()).update(connection.execute(earlier).scalars())
    return held


def stop_runs(curator: Curator, held: Held, *, by: str) -> list[ExposedRun]:
    """Ask every run to stop that is to be trained, or is being trained, on files that held a log; what each run saw."""
    for run in _all_runs(curator):
        if saw_files(run, held) and run["status"] not in ENDED:
            try:
                run_store.request_cancel(curator.registry, curator.project, run["run_id"], by=by)
            except Finished:  # in this moment
                continue
    return exposures(_all_runs(curator), held, model_store.names_of_runs(curator.registry, curator.project))


def hide_samples(curator: Curator, told: list[ExposedRun]) -> int:
    """Take the rows out of the reports of runs that saw a log; how many reports showed some."""
    return sum(_hide(curator, run.run_id) for run in told if run.exposure == "exposed")


def _all_runs(curator: Curator) -> list[run_store.Values]:
    with curator.registry.connect() as connection:
        found = connection.execute(select(runs).where(runs.c.project == curator.project))
        return [dict(row) for row in found.mappings()]


def _hide(curator: Curator, run_id: str) -> bool:
    """The report and the samples, then the manifest that holds their digests: done again after a crash, it ends the same.

    They may be there and the manifest not, or not be told of yet: of a trainer that was killed, or is uploading them.
    """
    folder = f"runs/{curator.project}/{run_id}"
    shown, hidden = {}, {}
    for name in (REPORT, SAMPLES_FILE):
        with suppress(DamagedFile):  # it is not uploaded, or somebody took the run's folder away
            shown[name] = curator.files.read(f"{folder}/{name}")
            hidden[name] = without_rows(name, shown[name])
            curator.files.replace(f"{folder}/{name}", hidden[name])
    if not hidden:
        return False
    with suppress(DamagedFile):
        manifest = msgspec.json.decode(curator.files.read(f"{folder}/manifest.json"))
        curator.files.replace(f"{folder}/manifest.json", canonical_json(manifest_with(manifest, hidden)))
    return shown != hidden
