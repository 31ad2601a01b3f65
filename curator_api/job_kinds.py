"""Which kinds of work on many logs there are, and how each is done."""

from collections.abc import Mapping

from tunemill.curator_api import job_store, rules_job
from tunemill.curator_api.job_work import Kind

KINDS: Mapping[str, Kind] = {
    "rules": Kind(rules_job.set_anew, rules_job.take_back, job_store.count_undone),
}
