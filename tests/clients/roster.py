"""The clients: the rows of the table in docs/sources/README.md."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from clients import chat_cases, messages_cases, responses_cases
from clients.case import Case
from clients.chat_cases import TABLE


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
_OPENLLMETRY = ("--instrumentor", "opentelemetry.instrumentation.openai:OpenAIInstrumentor")
_INLINE = ("--options", '{"upload_base64_image": null}')  # pictures stay in the messages, instead of being uploaded
_ON_EVENTS = ("--options", '{"use_attributes": false}')


def _posted(name: str, about: str, package: str, cases: ModuleType) -> Client:
    return Client(name, about, package, "openai", "openai_send.py", cases=(*cases.TABLE, *cases.MORE))


def _wrapped(name: str, about: str, cases: ModuleType) -> Client:
    every = (*cases.TABLE, *cases.MORE)
    return Client(name, about, "openai", "openai", "sdk_send.py", (), _OURS, every, tells_caller=True)


def _openai_v2(name: str, about: str, content: str, *arguments: str, **variables: str) -> Client:
    """OpenTelemetry's own instrumentation, by today's conventions."""
    told = {**_LATEST, **variables, _CAPTURE: content}
    package = "opentelemetry-instrumentation-openai-v2"
    return Client(name, about, package, "otel_openai", "otel_send.py", (*_OPENAI_V2, *arguments), told)


def _openllmetry(name: str, about: str, environment: str, *options: str) -> Client:
    package = "opentelemetry-instrumentation-openai"
    return Client(name, about, package, environment, "otel_send.py", (*_OPENLLMETRY, *options))


def _langfuse(version: int, about: str, script: str = "langfuse_send.py") -> Client:
    name = f"langfuse{version}"
    return Client(name, about, "langfuse", name, script, tells_caller=True, scores=True)


def _of_responses(client: Client) -> Client:
    """The same client, calling the Responses API."""
    about = f"{client.about}, Responses API"
    cases = (*responses_cases.TABLE, responses_cases.STREAMING_TOOLS, responses_cases.REASONING)
    return replace(client, name=f"{client.name}_responses", about=about, cases=cases)


def _litellm(name: str, about: str, callback: str, **variables: str) -> Client:
    arguments = ("--callback", callback)
    return Client(name, about, "litellm", "litellm", "litellm_send.py", arguments, variables, tells_caller=True)


_OPENINFERENCE = Client(
    "openinference",
    "OpenInference",
    "openinference-instrumentation-openai",
    "openinference",
    "otel_send.py",
    ("--instrumentor", "openinference.instrumentation.openai:OpenAIInstrumentor"),
    tells_caller=True,
)
CLIENTS = (
    _posted("openai", "the pair posted by the application", "openai", chat_cases),
    _posted("openai_responses", "the same of the Responses API", "openai", responses_cases),
    _posted("anthropic", "the pair posted by the application", "anthropic", messages_cases),
    _wrapped("sdk_wrap", "wrapped by tunemill's SDK", chat_cases),
    _wrapped("sdk_wrap_responses", "wrapped by tunemill's SDK, Responses API", responses_cases),
    _litellm("litellm", "its webhook, arrays", "json_array", **_UNCUT),
    _litellm("litellm_ndjson", "its webhook, NDJSON", "ndjson", **_UNCUT),
    _litellm("litellm_single", "its webhook, one by one, pictures cut", "single"),
    _litellm("litellm_sdk", "the callback of tunemill's SDK", "tunemill", **_UNCUT, **_OURS),
    _langfuse(2, "ingestion API", "langfuse2_send.py"),
    _langfuse(3, "OTLP, scores by the ingestion API"),
    _langfuse(4, "OTLP, scores by the ingestion API"),
    _langfuse(5, "OTLP, scores by their own API"),
    _of_responses(_langfuse(5, "OTLP")),
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
    _OPENINFERENCE,
    _of_responses(_OPENINFERENCE),
    _openllmetry("openllmetry", "OpenLLMetry", "openllmetry", *_INLINE),
    _of_responses(_openllmetry("openllmetry", "OpenLLMetry", "openllmetry", *_INLINE)),
    _openllmetry("openllmetry_event", "OpenLLMetry, content on events", "openllmetry", *_ON_EVENTS),
    _openllmetry("openllmetry_old", "OpenLLMetry, flattened content", "openllmetry_old", *_INLINE),
)
# Those that can send over Kafka: tunemill's own SDK, Confluent's client, and what the OpenTelemetry Collector passes on.
KAFKA_CLIENTS = (
    *(client for client in CLIENTS if client.name in ("sdk_wrap", "sdk_wrap_responses", "litellm_sdk")),
    Client(
        "confluent",
        "our Avro schema, in a schema registry",
        "confluent-kafka",
        "confluent",
        "confluent_send.py",
        cases=tuple(case for case in TABLE if case is not chat_cases.STREAMING),
    ),
    *(client for client in CLIENTS if client.collected),
)
