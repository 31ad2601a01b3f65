"""The clients, and how one of them is run: as a process of its own, in its own environment."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.cases import RAW, TABLE, WRAPPED, Case, as_sent
from clients.environments import environment

HERE = Path(__file__).parent
LONGEST_S = 240
_LAST_WORDS = 4000  # characters of a failed driver's output that are shown


@dataclass(frozen=True)
class Client:
    """One way to send: a row of the table."""

    name: str
    environment: str
    script: str
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    cases: tuple[Case, ...] = field(default=TABLE, repr=False)
    noted: tuple[str, ...] = ()  # what it can tell of a call beside the call itself: fields of the log
    scored: bool = False  # it scores each call


Told = dict[str, dict[str, str | None]]  # by case, the ids that a driver told


class DriverFailed(Exception):
    """A client's process ended with an error; the message ends with what it said."""


_NOTED = ("user_id", "session_id", "tags", "metadata")
_WHOLE = {"MAX_BASE64_LENGTH_FOR_LOGGING": "0"}  # else LiteLLM cuts pictures out of what it logs
_OURS = {"PYTHONPATH": str(HERE.parents[1] / "src")}  # beside what pip would install of the SDK's dependencies
_LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_OPENAI_V2 = ("--instrumentor", "opentelemetry.instrumentation.openai_v2:OpenAIInstrumentor")
_OPENLLMETRY = ("--instrumentor", "opentelemetry.instrumentation.openai:OpenAIInstrumentor")
_INLINE = '{"upload_base64_image": null}'  # images stay in the messages, instead of being uploaded by the application
_OPENINFERENCE = ("--instrumentor", "openinference.instrumentation.openai:OpenAIInstrumentor")

CLIENTS = (
    Client("otel_openai_span", "otel_openai", "otel_send.py", _OPENAI_V2, {**_LATEST, _CAPTURE: "SPAN_ONLY"}),
    Client(
        "otel_openai_event",
        "otel_openai",
        "otel_send.py",
        _OPENAI_V2,
        {**_LATEST, _CAPTURE: "EVENT_ONLY", "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"},
    ),
    Client(
        "otel_openai_json",
        "otel_openai",
        "otel_send.py",
        (*_OPENAI_V2, "--encoding", "json"),
        {**_LATEST, _CAPTURE: "SPAN_AND_EVENT", "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true"},
    ),
    Client("otel_openai_old", "otel_openai_old", "otel_send.py", (*_OPENAI_V2, "--events-first"), {_CAPTURE: "true"}),
    Client("openinference", "openinference", "otel_send.py", _OPENINFERENCE, noted=_NOTED),
    Client("openllmetry", "openllmetry", "otel_send.py", (*_OPENLLMETRY, "--options", _INLINE)),
    Client(
        "openllmetry_event", "openllmetry", "otel_send.py", (*_OPENLLMETRY, "--options", '{"use_attributes": false}')
    ),
    Client("openllmetry_old", "openllmetry_old", "otel_send.py", (*_OPENLLMETRY, "--options", _INLINE)),
    Client("langfuse2", "langfuse2", "langfuse2_send.py", noted=_NOTED, scored=True),
    Client("langfuse3", "langfuse3", "langfuse_send.py", noted=_NOTED, scored=True),
    Client("langfuse4", "langfuse4", "langfuse_send.py", noted=_NOTED, scored=True),
    Client("langfuse5", "langfuse5", "langfuse_send.py", noted=_NOTED, scored=True),
    Client("litellm", "litellm", "litellm_send.py", variables=_WHOLE, noted=_NOTED),
    Client("litellm_ndjson", "litellm", "litellm_send.py", ("--log-format", "ndjson"), _WHOLE, noted=_NOTED),
    Client("litellm_single", "litellm", "litellm_send.py", ("--log-format", "single"), noted=_NOTED),
    Client("openai", "openai", "openai_send.py", cases=(*TABLE, *RAW)),
    Client("sdk_wrap", "openai", "sdk_send.py", variables=_OURS, cases=(*TABLE, *WRAPPED), noted=_NOTED),
)


def drive(client: Client, *, model_url: str, to: str, key: str, run: str = "", arguments: Sequence[str] = ()) -> Told:
    """Make every case's call with the real client, and return by case the ids that its log can be found by.

    Args:
        run: a suffix of the models' names.
        arguments: further ones of this client's script.

    Raises:
        EnvironmentAbsent: the client can't be installed here.
        DriverFailed: the client's process failed.
    """
    python = environment(client.environment)
    with tempfile.TemporaryDirectory(prefix="tunemill-client-") as folder:
        asked = Path(folder) / "cases.json"
        asked.write_text(json.dumps(as_sent(client.cases, client.name + run)), encoding="utf-8")
        command = [str(python), "-W", "ignore", str(HERE / client.script), *client.arguments, *arguments]
        command += ["--cases", str(asked), "--model-url", model_url, "--to", to, "--key", key]
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=LONGEST_S, env=_variables(client), cwd=folder
        )
    if done.returncode:
        raise DriverFailed(f"{client.name}: {(done.stdout + done.stderr)[-_LAST_WORDS:]}")
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    return {line.pop("case"): line for line in told}


def _variables(client: Client) -> dict[str, str]:
    """This process's variables without what would change a client's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LANGFUSE_", "PYTHON"))}
    return {**kept, **client.variables}
