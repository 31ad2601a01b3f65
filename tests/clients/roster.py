"""The clients: the rows of the table in docs/sources/README.md."""

from dataclasses import dataclass, field
from pathlib import Path

from clients.cases import RAW, STREAMING, TABLE, WRAPPED, Case


@dataclass(frozen=True)
class Client:
    """One way to send."""

    name: str
    about: str  # for the table, after the package and its version
    package: str
    environment: str
    script: str
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    cases: tuple[Case, ...] = field(default=TABLE, repr=False)
    tells_caller: bool = False  # it tells user, session, tags and metadata of a call, too
    scores: bool = False

    @property
    def collected(self) -> bool:
        """Whether what it exports is OTLP, which a Collector can pass on."""
        return self.script == "otel_send.py"


_OURS = {
    "PYTHONPATH": str(Path(__file__).parents[2] / "src")
}  # beside what pip would install of the SDK's dependencies
_UNCUT = {"MAX_BASE64_LENGTH_FOR_LOGGING": "0"}  # else LiteLLM cuts pictures out of what it logs

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
_EVENTS = {"OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"}
_OPENAI_V2 = ("--instrumentor", "opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor")
_OPENINFERENCE = ("--instrumentor", "openinference.instrumentation.openai:OpenAIInstrumentor")
_OPENLLMETRY = ("--instrumentor", "opentelemetry.instrumentation.openai:OpenAIInstrumentor")
_INLINE = ("--options", '{"upload_base64_image": null}')  # pictures stay in the messages, instead of being uploaded
_ON_EVENTS = ("--options", '{"use_attributes": false}')


def _openai_v2(name: str, about: str, content: str, *arguments: str, **variables: str) -> Client:
    """OpenTelemetry's own instrumentation, by today's conventions."""
    told = {**_LATEST, **variables, _CAPTURE: content}
    package = "opentelemetry-instrumentation-openai-v2"
    return Client(name, about, package, "otel_openai", "otel_send.py", (*_OPENAI_V2, *arguments), told)


def _openllmetry(name: str, about: str, environment: str, *options: str) -> Client:
    package = "opentelemetry-instrumentation-openai"
    return Client(name, about, package, environment, "otel_send.py", (*_OPENLLMETRY, *options))


def _langfuse(name: str, about: str, script: str) -> Client:
    return Client(name, about, "langfuse", name, script, tells_caller=True, scores=True)


def _litellm(name: str, about: str, callback: str, **variables: str) -> Client:
    arguments = ("--callback", callback)
    return Client(name, about, "litellm", "litellm", "litellm_send.py", arguments, variables, tells_caller=True)


CLIENTS = (
    Client("openai", "the pair posted by the application", "openai", "openai", "openai_send.py", cases=(*TABLE, *RAW)),
    Client(
        "sdk_wrap",
        "wrapped by tunemill's SDK",
        "openai",
        "openai",
        "sdk_send.py",
        variables=_OURS,
        cases=(*TABLE, *WRAPPED),
        tells_caller=True,
    ),
    _litellm("litellm", "its webhook, arrays", "json_array", **_UNCUT),
    _litellm("litellm_ndjson", "its webhook, NDJSON", "ndjson", **_UNCUT),
    _litellm("litellm_single", "its webhook, one by one, pictures cut", "single"),
    _litellm("litellm_sdk", "the callback of tunemill's SDK", "tunemill", **_UNCUT, **_OURS),
    _langfuse("langfuse2", "ingestion API", "langfuse2_send.py"),
    _langfuse("langfuse3", "OTLP, scores by the ingestion API", "langfuse_send.py"),
    _langfuse("langfuse4", "OTLP, scores by the ingestion API", "langfuse_send.py"),
    _langfuse("langfuse5", "OTLP, scores by their own API", "langfuse_send.py"),
    _openai_v2("otel_openai_span", "content on spans", "SPAN_ONLY"),
    _openai_v2("otel_openai_event", "content on events", "EVENT_ONLY", **_EVENTS),
    _openai_v2("otel_openai_json", "on both, OTLP as JSON", "SPAN_AND_EVENT", "--encoding", "json", **_EVENTS),
    Client(
        "otel_openai_old",
        "an event per message",
        "opentelemetry-instrumentation-openai-v2",
        "otel_openai_old",
        "otel_send.py",
        (*_OPENAI_V2, "--events-first"),
        {_CAPTURE: "true"},
    ),
    Client(
        "openinference",
        "OpenInference",
        "openinference-instrumentation-openai",
        "openinference",
        "otel_send.py",
        _OPENINFERENCE,
        tells_caller=True,
    ),
    _openllmetry("openllmetry", "OpenLLMetry", "openllmetry", *_INLINE),
    _openllmetry("openllmetry_event", "OpenLLMetry, content on events", "openllmetry", *_ON_EVENTS),
    _openllmetry("openllmetry_old", "OpenLLMetry, flattened content", "openllmetry_old", *_INLINE),
)
# Those that can send over Kafka: tunemill's own SDK, Confluent's client, and what the OpenTelemetry Collector passes on.
KAFKA_CLIENTS = (
    *(client for client in CLIENTS if client.name in ("sdk_wrap", "litellm_sdk")),
    Client(
        "confluent",
        "our Avro schema, in a schema registry",
        "confluent-kafka",
        "confluent",
        "confluent_send.py",
        cases=tuple(case for case in TABLE if case is not STREAMING),
    ),
    *(client for client in CLIENTS if client.collected),
)
