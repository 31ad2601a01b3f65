"""The tables, as SQLAlchemy Core data. SQLite and PostgreSQL hold the same ones; `migrations/` makes them.

Times are milliseconds since the epoch, UTC. JSON columns hold what the column's comment says.
"""

import time

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)


def now_ms() -> int:
    """The time as the tables hold it."""
    return time.time_ns() // 1_000_000


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only on INTEGER

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_sha256", String(64), primary_key=True),
    Column("key_id", String(32), nullable=False, comment="the public part, fit for logs"),
    Column("project", String(63), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

edits = Table(
    "edits",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False),
    Column("log_id", String(512), nullable=False),
    Column("revision", Integer, nullable=False, comment="counts up per log"),
    Column("kind", String(16), nullable=False, comment="tag | untag | reset | messages | consent | erase"),
    Column("tag", String(256), comment="of tag, untag and reset"),
    Column(
        "value",
        JSON,
        comment="messages: {messages, output}; consent: the word; null: as the log came; tags: who set it before",
    ),
    Column("why", Text),
    Column("by", String(128), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("job_id", String(32), comment="the work on many logs that it was part of"),
    Column("applied_ms", BigInteger, comment="when the index had it; null: it is not known to"),
    UniqueConstraint("project", "log_id", "revision"),
    Index(None, "tag"),
    Index(None, "job_id"),
    Index(None, "applied_ms"),
    Index(None, "project", "kind", "ts_ms"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("erasure_id", String(32), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("log_id", String(512), nullable=False),
    Column("by", String(128), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    UniqueConstraint("project", "log_id"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("draft", JSON, nullable=False, comment="the recipe: query, limit, seed, test share"),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)

row_edits = Table(
    "row_edits",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("row_key", String(512), nullable=False, comment="the log_id, or the id of an imported row"),
    Column("action", String(8), nullable=False, comment="edit | delete"),
    Column("messages", JSON, comment="the row's messages after the edit"),
    Column("rejected", JSON, comment="of a row with a better and a worse answer: the worse one after the edit"),
    Column("by", String(128), nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name", "row_key"),
)

imported_rows = Table(
    "imported_rows",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("row_key", String(512), nullable=False),
    Column("seq", Integer, nullable=False, comment="line in the imported file"),
    Column("messages", JSON, nullable=False),
    Column("tools", JSON),
    Column("rejected", JSON, comment="of a row with a better and a worse answer: the worse one"),
    Column(
        "source", String(200), nullable=False, server_default=text("''"), comment="the file or set that it came from"
    ),
    Column("licence", String(200), comment="of the set that it came from"),
    Column("conversation", String(256), comment="null: told by how the messages begin"),
    Column(
        "held_out",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="by its set, which has it for testing or validation",
    ),
    PrimaryKeyConstraint("project", "name", "row_key"),
)

versions = Table(
    "versions",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("manifest_url", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("splits", JSON, nullable=False, comment="rows per split"),
    Column("draft", JSON, nullable=False, comment="the recipe as it stood"),
    Column("report", JSON, nullable=False, comment="rows in and out by reason"),
    Column("shape", String(16), nullable=False, server_default="chat", comment="chat | preference"),
    Column("revision", Integer, nullable=False, server_default="1", comment="counts up when erased rows are taken out"),
    Column("parent", Integer, comment="the version that it follows"),
    Column("point_ms", BigInteger, nullable=False, server_default="0", comment="the point in time that it is of"),
    Column(
        "sources_url",
        Text,
        nullable=False,
        server_default=text("''"),
        comment="what names the files that say whence each row",
    ),
    Column("lineage", JSON, comment="searches, versions and imports that it was made from"),
    Column("note", Text),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("idempotency_key", String(128), comment="the caller's: publishing again with it gives this version again"),
    PrimaryKeyConstraint("project", "name", "version"),
    UniqueConstraint("project", "name", "idempotency_key"),
    ForeignKeyConstraint(["project", "name"], ["datasets.project", "datasets.name"]),
)

aliases = Table(
    "aliases",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("alias", String(63), nullable=False, comment="never `latest`, which is computed"),
    Column("version", Integer, nullable=False),
    Column("by", String(128), nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name", "alias"),
)

redactions = Table(
    "redactions",
    metadata,
    Column("redaction_id", String(32), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("revision", Integer, nullable=False, comment="of the version, after it"),
    Column("digest", String(64), nullable=False),
    Column("replaces_digest", String(64), nullable=False),
    Column("request_id", String(32), nullable=False, comment="the erasure that asked for it"),
    Column("rows_removed", Integer, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    UniqueConstraint("project", "name", "version", "revision"),
    Index(None, "request_id"),
)

model_licences = Table(
    "model_licences",
    metadata,
    Column("project", String(63), nullable=False),
    Column("model", String(256), nullable=False, comment="may end in *; of those that fit, the longest holds"),
    Column("trainable", String(8), nullable=False, comment="yes | no: whether its output may be trained on"),
    Column("note", Text),
    Column("by", String(128), nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "model"),
)

erasure_requests = Table(
    "erasure_requests",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("scope", JSON, nullable=False, comment="kind, SHA-256 of the value; the value itself only until it is done"),
    Column("status", String(16), nullable=False, comment="running | done | failed"),
    Column("receipt", JSON, comment="what was removed where; never text"),
    Column("lease_owner", String(128)),
    Column("lease_until_ms", BigInteger),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Index(None, "status"),
)

erasure_items = Table(
    "erasure_items",
    metadata,
    Column("request_id", String(32), nullable=False),
    Column("kind", String(8), nullable=False, comment="log | answer | trace | note | value | row | media"),
    Column("name", String(512), nullable=False, comment="its id"),
    PrimaryKeyConstraint("request_id", "kind", "name"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", String(32), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False, comment="what deliveries are signed with: it has to be known here"),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("webhook_id", String(32), nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_ms", BigInteger, comment="null: it was sent, or given up"),
    Column("sent_ms", BigInteger),
    Column("last_error", String(64), comment="a class or a status, never an answer's text"),
    PrimaryKeyConstraint("webhook_id", "event_id"),
    Index(None, "next_ms"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("run_key", String(64), nullable=False, unique=True),
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("manifest_url", Text, nullable=False),
    Column("recipe", JSON, nullable=False, comment="with its defaults; the plan has what `auto` came to"),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, comment="the fencing token: a writer with an older one is refused"),
    Column("lease_owner", String(128)),
    Column("lease_until_ms", BigInteger),
    Column("cancel_requested_ms", BigInteger),
    Column("progress", JSON, comment="step, steps, loss, tokens_per_s"),
    Column("result", JSON, comment="scores before and after, gates, artefacts"),
    Column("error", JSON, comment="code, message, remedy"),
    Column("artefact_url", Text),
    Column("trained_tokens", BigInteger),
    Column("seconds", Float),
    Column("event_seq", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("priority", Integer, nullable=False, server_default="0", comment="of those that wait, the highest is next"),
    Column(
        "sources_url",
        Text,
        nullable=False,
        server_default=text("''"),
        comment="what names the files that say whence each row",
    ),
    Column("plan", JSON, comment="what was settled before training, with reasons"),
    Column("launcher", String(64), comment="what runs it, and as which job; for a person"),
    Column("identity", JSON, comment="digests of what the recipe named when the run was ordered"),
    Index(None, "status", "priority", "created_ms"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False, comment="the dataset"),
    Column("alias", String(63), nullable=False),
    Column("run_id", String(32), nullable=False),
    Column("by", String(128), nullable=False),
    Column("reason", Text, comment="of a person who set it against a gate"),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name", "alias"),
)

training_policies = Table(
    "training_policies",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False, comment="the dataset"),
    Column("train_on", String(72), nullable=False, comment="version | alias:<alias>"),
    Column("recipe", JSON, nullable=False),
    Column("quiet_s", Integer, nullable=False, comment="without another version before the last one is trained on"),
    Column("priority", Integer, nullable=False),
    Column("due_ms", BigInteger, comment="when it is trained on; null: nothing waits"),
    Column("due_version", Integer, comment="what is then trained on"),
    Column("by", String(128), nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name"),
    Index(None, "due_ms"),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", String(32), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("level", String(8), nullable=False, comment="info | warn | error"),
    Column("type", String(16), nullable=False, comment="message | metrics"),
    Column("message", Text, nullable=False),
    Column("data", JSON),
    PrimaryKeyConstraint("run_id", "seq"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("event_id", String(128), nullable=False, unique=True),
    Column("topic", String(128), nullable=False),
    Column("key", String(512), nullable=False),
    Column("value", LargeBinary, nullable=False, comment="the Avro bytes to publish"),
    Column("created_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Index(None, "sent_ms"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("project", String(63), nullable=False),
    Column("by", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(600), nullable=False, comment="ids only, never content"),
    Column("data", JSON),
    Index(None, "project", "action", "ts_ms"),
)

rule_sets = Table(
    "rule_sets",
    metadata,
    Column("project", String(63), nullable=False),
    Column(
        "revision",
        Integer,
        nullable=False,
        comment="counts up with every change of what sets tags; the highest is in force",
    ),
    Column("document", Text, comment="the rules, YAML as it was given; NULL: the packaged starter set"),
    Column("learned", JSON, nullable=False, comment="the learned tags in force: a list of {tag, version}"),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "revision"),
)

learned_tags = Table(
    "learned_tags",
    metadata,
    Column("project", String(63), nullable=False),
    Column("tag", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("model", JSON, nullable=False, comment="weights by word, bias, threshold"),
    Column("report", JSON, nullable=False, comment="labels, precision and recall on those held out"),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "tag", "version"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("kind", String(16), nullable=False, comment="what is done: rules, ..."),
    Column("query", Text, nullable=False),
    Column("work", JSON, comment="what to do to each log, by kind"),
    Column("why", Text),
    Column("revision", Integer, comment="of the rules that it applies, if its kind is rules"),
    Column("status", String(16), nullable=False, comment="running | done | failed | cancelled | undoing | undone"),
    Column("total", Integer, nullable=False, comment="logs that matched when it began"),
    Column("seen", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("place", JSON, comment="how far it is, by kind; of rules [ts_ms, log_id], for an undo [log_id]"),
    Column("result", JSON, comment="what came of it, by kind"),
    Column("lease_owner", String(128)),
    Column("lease_until_ms", BigInteger),
    Column("error", JSON, comment="code, message"),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("idempotency_key", String(128), comment="the caller's: asking again with it gives this job again"),
    Column("request_digest", String(64), comment="of what was asked for, if there is such a key"),
    UniqueConstraint("project", "idempotency_key"),
    Index(None, "status"),
)

job_changes = Table(
    "job_changes",
    metadata,
    Column("job_id", String(32), nullable=False),
    Column("log_id", String(512), nullable=False),
    Column("added", JSON, nullable=False, comment="[tag, by] pairs"),
    Column("taken", JSON, nullable=False, comment="[tag, by] pairs"),
    PrimaryKeyConstraint("job_id", "log_id"),
)

saved_searches = Table(
    "saved_searches",
    metadata,
    Column("project", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("query", Text, nullable=False),
    Column("by", String(128), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)

retention = Table(
    "retention",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("max_age_days", Integer, comment="older logs go; null: however old"),
    Column("max_bytes", BigInteger, comment="the oldest logs go until the index fits; null: however large"),
    Column("by", String(128), nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)
