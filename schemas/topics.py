"""The wiring diagram as data. Nothing else in the project spells a topic's name."""

import msgspec

from tunemill.schemas import records


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic: what it carries, by which key, who writes it and who reads it."""

    name: str
    record: type[msgspec.Struct]
    key: str  # the field that orders records and, where compacted, identifies them
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 1
    compacted: bool = False
    max_message_bytes: int = 4 * 2**20


LOGS = Topic(
    name="llm.logs",
    record=records.LogRecord,
    key="session_id",
    producers=("sdk", "curator_api"),
    consumers=("streams",),
    partitions=4,
)
REJECTED = Topic(
    name="llm.logs.rejected",
    record=records.RejectedLog,
    key="rejected_id",
    producers=("streams", "trainer"),
    consumers=("curator_api",),
    max_message_bytes=6 * 2**20,  # a whole rejected message and its wrapping
)
ERASURES = Topic(
    name="llm.erasures",
    record=records.Erasure,
    key="log_id",
    producers=("curator_api",),
    consumers=("streams",),
    compacted=True,
)
FEEDBACK = Topic(
    name="llm.feedback",
    record=records.Feedback,
    key="feedback_id",
    producers=("curator_api", "streams"),  # the stream: feedback that lies among the logs
    consumers=("streams",),
    compacted=True,  # kept for ever; of several with one id the last one
)
DATASETS_READY = Topic(
    name="datasets.ready",
    record=records.DatasetReady,
    key="name",
    producers=("curator_api",),
    consumers=("trainer",),
)
DATASETS_REDACTED = Topic(
    name="datasets.redacted",
    record=records.DatasetRedacted,
    key="name",
    producers=("curator_api",),
    consumers=(),  # for whoever keeps copies of versions
)
RUNS_STATUS = Topic(
    name="runs.status",
    record=records.RunStatus,
    key="run_id",
    producers=("trainer",),
    consumers=(),  # for whoever wants to follow runs
)
RUNS_FINISHED = Topic(
    name="runs.finished",
    record=records.RunFinished,
    key="run_id",
    producers=("trainer",),
    consumers=(),  # for whoever uses what runs make
)

TOPICS = (LOGS, REJECTED, ERASURES, FEEDBACK, DATASETS_READY, DATASETS_REDACTED, RUNS_STATUS, RUNS_FINISHED)
