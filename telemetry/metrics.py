"""The counters that every process exports on `/metrics`. Labels come from bounded lists, never from a log."""

from prometheus_client import Counter, Gauge, Histogram

LOGS = Counter(
    "tunemill_logs", "Logs by what became of them", ["outcome"]
)  # received | indexed | merged | duplicate | rejected | erased
NOT_CALLS = Counter("tunemill_not_calls", "What came among the logs and is none, by kind", ["kind"])
FEEDBACK = Counter("tunemill_feedback", "Feedback by what became of it", ["outcome"])
REJECTED = Counter("tunemill_rejected", "Dead letters by stage and error code", ["stage", "code"])
REDRIVEN = Counter("tunemill_redriven", "Records of dead letters that were sent again", ["topic"])
BATCH_SECONDS = Histogram("tunemill_batch_seconds", "From being read to accounted for, per part")
INDEX_RETRIES = Counter("tunemill_index_retries", "Items sent to the index again", ["status"])
PARTS_BEGUN = Gauge("tunemill_parts_begun", "Parts that are read or written at this moment")
BYTES_IN_HAND = Gauge("tunemill_bytes_in_hand", "Messages taken and not finished, in bytes")
LAG = Gauge("tunemill_lag_messages", "Messages in our partitions that are not fetched yet")
LAST_PROGRESS = Gauge("tunemill_last_progress_timestamp_seconds", "When a part was last finished")
OUTBOX_PENDING = Gauge("tunemill_outbox_pending", "Events that wait to be published")
EDITS_WITHOUT_LOG = Gauge("tunemill_edits_without_log", "Logs that people edited and that are not in the index")
WEBHOOKS = Counter(
    "tunemill_webhooks", "Attempts to tell webhooks of an event", ["outcome"]
)  # sent | failed | given_up
RUNS = Counter("tunemill_runs", "Training runs by how they ended", ["status"])
RUN_SECONDS = Counter("tunemill_run_seconds", "What attempts at runs took, by stage", ["stage"])
TRAIN_TOKENS = Counter("tunemill_train_tokens", "Tokens of answers that runs with a result were trained on")
REQUESTS = Counter("tunemill_http_requests", "API requests", ["method", "route", "status"])
RULES_REVISION = Gauge("tunemill_rules_revision", "Which set of rules tags logs here; 0: the packaged starter set")
RULES_BEHIND = Gauge(
    "tunemill_rules_behind", "1 while the rules in force cannot be taken up: no registry, or not understood"
)
RETENTION_DROPPED = Counter(
    "tunemill_retention_dropped", "Logs that were kept no longer, by their age or the index's size"
)
RETENTION_FAILED = Gauge("tunemill_retention_failed", "1 while the last run of the retention failed")
