"""Which kinds of work on many logs there are, and how each is done."""

from collections.abc import Mapping

from tunemill.curator_api import bulk_delete, bulk_edits, job_store, reindex_job, retention_job, rules_job
from tunemill.curator_api.job_work import Kind

_EDITS = Kind(bulk_edits.edit_all, bulk_edits.take_back, job_store.count_edits_undone)

KINDS: Mapping[str, Kind] = {
    "rules": Kind(rules_job.set_anew, rules_job.take_back, job_store.count_undone),
    "tags": _EDITS,
    "consent": _EDITS,
    "delete": Kind(bulk_delete.delete_all, None),
    "reindex": Kind(reindex_job.rebuild, None),
    "retention": Kind(retention_job.drop, None),
}
