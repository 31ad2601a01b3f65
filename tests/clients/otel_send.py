"""Makes each case's call with an instrumented openai client, exporting OTLP over HTTP.

Each call is made within a span of the application's own, as a request handler's would be.
"""

import importlib
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import calls
import openai
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def main() -> None:
    parser = calls.parser()
    parser.add_argument("--instrumentor", required=True, help="module:class")
    parser.add_argument("--options", type=json.loads, default={}, help="the instrumentor's options, as JSON")
    parser.add_argument("--encoding", default="proto", help="proto or json")
    parser.add_argument("--events-first", action="store_true", help="export a call's events before its span")
    arguments = parser.parse_args()
    headers = {"Authorization": f"Bearer {arguments.key}"}
    resource = Resource.create({"service.name": "shop"})

    exporter = f"opentelemetry.exporter.otlp.{arguments.encoding}.http"
    span_exporter = importlib.import_module(f"{exporter}.trace_exporter").OTLPSpanExporter
    log_exporter = importlib.import_module(f"{exporter}._log_exporter").OTLPLogExporter

    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(span_exporter(endpoint=f"{arguments.to}/v1/traces", headers=headers)))
    trace.set_tracer_provider(spans)
    events = LoggerProvider(resource=resource)
    events.add_log_record_processor(
        BatchLogRecordProcessor(log_exporter(endpoint=f"{arguments.to}/v1/logs", headers=headers))
    )
    set_logger_provider(events)
    _set_event_logger(events)

    module, _, name = arguments.instrumentor.partition(":")
    getattr(importlib.import_module(module), name)(**arguments.options).instrument()

    tracer = trace.get_tracer("shop")
    client = openai.OpenAI(base_url=arguments.model_url, api_key=calls.MODEL_KEY, max_retries=0)
    for case, request in calls.cases(arguments):
        with tracer.start_as_current_span("answer a customer") as span, _noted(module, request):
            response_id = calls.complete(client, request)
            trace_id = f"{span.get_span_context().trace_id:032x}"
        for provider in (events, spans) if arguments.events_first else (spans, events):
            provider.force_flush()
        calls.tell(case, response_id=response_id, trace_id=trace_id)
    spans.shutdown()
    events.shutdown()


def _noted(module: str, request: dict[str, Any]) -> AbstractContextManager[Any]:
    """Of these instrumentations only OpenInference has a way to say whose call it is."""
    if module.startswith("openinference"):
        from openinference.instrumentation import using_attributes

        return using_attributes(**calls.noted(request))
    return nullcontext()


def _set_event_logger(events: LoggerProvider) -> None:
    """Older versions write events through an API of their own."""
    try:
        from opentelemetry._events import set_event_logger_provider
        from opentelemetry.sdk._events import EventLoggerProvider
    except ImportError:
        return
    set_event_logger_provider(EventLoggerProvider(events))


if __name__ == "__main__":
    main()
