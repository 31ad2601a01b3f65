"""What an operator may set from outside: the four addresses and a few values, read from the environment once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunemill.curator_api.settings import Consent, Settings

ENVIRONMENT: dict[str, str] = {
    "TUNEMILL_BUS_URL": "where records travel: sqlite:<file> or kafka://host:port[,host:port]",
    "TUNEMILL_INDEX_URL": "where logs are searched: local:<folder> or http(s)://host:port of Elasticsearch",
    "TUNEMILL_REGISTRY_URL": "what is remembered: an SQLAlchemy URL, sqlite:///<file> or postgresql+psycopg://...",
    "TUNEMILL_FILES_URL": "datasets and adapters: a folder or an fsspec URL such as s3://bucket/prefix",
    "TUNEMILL_SCHEMA_REGISTRY_URL": "the schema registry of messages that Confluent's serializers write: http(s)://[user:password@]host:port",
    "TUNEMILL_WORK_DIR": "the trainer's scratch folder on this machine: checkpoints and progress of runs under way",
    "TUNEMILL_LAUNCHER": "what runs the trainer's workers: local: or ray+http://host:8265 of a Ray cluster's job server",
    "TUNEMILL_RECIPE_FOLDERS": "folders, with : between them, below which recipes may name models and files; anywhere unless told",
    "TUNEMILL_HOST": "the address that a service listens on; 127.0.0.1 unless told",
    "TUNEMILL_DEFAULT_CONSENT": "train or none: what holds for a log that says nothing; none unless told",
    "TUNEMILL_TOKENIZERS": "a folder of <name>/tokenizer.json: the tokenizers by which recipes of datasets count",
    "TUNEMILL_WEBHOOK_HOSTS": "hosts, or host:port, that events may be sent to, with commas between them; none unless told",
    "TUNEMILL_KEY": "the API key, for the client commands; for `up` and `api`, the key to accept instead of making one",
    "TUNEMILL_URL": "the API's address, for the client commands",
}
ENGINES = ("TUNEMILL_BUS_URL", "TUNEMILL_INDEX_URL", "TUNEMILL_REGISTRY_URL", "TUNEMILL_FILES_URL")


class MissingSetting(Exception):
    """A service was started without an address that it needs."""


@dataclass(frozen=True)
class Engines:
    """The four addresses that choose the engines."""

    bus_url: str
    index_url: str
    registry_url: str
    files_url: str


def embedded(data: Path) -> Engines:
    """Everything in one folder of this machine, without a server."""
    data = data.resolve()
    return Engines(
        bus_url=f"sqlite:{data / 'bus.db'}",
        index_url=f"local:{data / 'index'}",
        registry_url=f"sqlite:///{data / 'registry.db'}",
        files_url=str(data / "files"),
    )


def engines_from(environment: Mapping[str, str]) -> Engines:
    """The addresses in the environment.

    Raises:
        MissingSetting: one is not set; the message names it and what it holds.
    """
    for name in ENGINES:
        if not environment.get(name):
            raise MissingSetting(f"set {name}: {ENVIRONMENT[name]}")
    return Engines(*(environment[name] for name in ENGINES))


def api_settings(environment: Mapping[str, str], *, default_consent: Consent) -> Settings:
    """How the API behaves, with what the environment says of it."""
    tokenizers = environment.get("TUNEMILL_TOKENIZERS")
    hosts = (host.strip().lower() for host in environment.get("TUNEMILL_WEBHOOK_HOSTS", "").split(","))
    return Settings(
        require_key=True,
        default_consent=default_consent,
        tokenizers=Path(tokenizers) if tokenizers else None,
        webhook_hosts=tuple(host for host in hosts if host),
    )
