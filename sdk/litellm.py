"""LiteLLM's calls, as its own callback tells them: `litellm.callbacks = [TunemillLogger(producer)]`.

What is sent is LiteLLM's `StandardLoggingPayload` without what tells of keys, machines or people. The server reads it as it
reads LiteLLM's webhook (docs/sources/litellm.md).
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from tunemill.schemas.ids import new_id
from tunemill.sdk.producer import Producer

_REMEMBERED = 10_000  # calls that may be told again
_PERSONAL = frozenset({"requester_ip_address", "user_agent"})
_OF_ERROR = (
    "error_class",
    "error_code",
    "llm_provider",
)  # the other fields are texts, of which nobody knows what they hold
_DROPPED_INSIDE = {
    "metadata": _PERSONAL | {"user_api_key_user_email", "user_api_key_auth_metadata", "requester_custom_headers"},
    "model_parameters": frozenset({"api_key", "extra_headers", "headers", "default_headers"}),
    "hidden_params": frozenset({"additional_headers", "api_base"}),
}
_DROPPED = _PERSONAL | {"error_str", "model_map_information"}  # the last is LiteLLM's list of prices
# What LiteLLM and its router write among the metadata that a caller of its SDK gave.
_NOT_CALLERS = frozenset({
    *("tags", "session_id", "trace_id", "model_group", "model_group_alias", "model_group_size", "original_model_group"),
    *("attempted_fallbacks", "attempted_retries", "max_retries", "deployment", "deployment_model_name", "api_base"),
})  # fmt: skip


class TunemillLogger(CustomLogger):  # type: ignore[misc]
    """A callback of LiteLLM, for its SDK and its proxy. No method raises, and each call is logged once.

    Args:
        producer: where the logs go. It is the application's to close.
        options: those of LiteLLM's `CustomLogger`, as `turn_off_message_logging`.
    """

    def __init__(self, producer: Producer, **options: Any) -> None:
        super().__init__(**options)
        self._producer = producer
        self._told: OrderedDict[object, None] = OrderedDict()
        self._lock = threading.Lock()

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call that was answered."""
        self._log(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call that failed."""
        self._log(kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same, of an asynchronous call."""
        self._log(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same, of an asynchronous call."""
        self._log(kwargs)

    def _log(self, details: Any) -> None:
        log_id = new_id()
        try:
            told = self.redact_standard_logging_payload_from_model_call_details(details)["standard_logging_object"]
            if self._is_new(told):
                session_id = told.get("session_id") or told.get("trace_id")
                payload = _with_metadata(_without_secrets(told), _callers_metadata(details))
                self._producer.log_as_is(payload, log_id=log_id, session_id=session_id)
        except Exception as error:
            self._producer.note_dropped(log_id, f"LiteLLM told no payload that can be read ({type(error).__name__})")

    def _is_new(self, payload: Mapping[str, Any]) -> bool:
        """Some calls are told to the synchronous and to the asynchronous method."""
        call = tuple(str(payload.get(name)) for name in ("litellm_call_id", "startTime", "status"))
        with self._lock:
            if call in self._told:
                return False
            self._told[call] = None
            if len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            return True


def _without_secrets(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What may leave the application."""
    kept = {name: value for name, value in payload.items() if name not in _DROPPED}
    for name, dropped in _DROPPED_INSIDE.items():
        if isinstance(kept.get(name), Mapping):
            kept[name] = {key: value for key, value in kept[name].items() if key not in dropped}
    if isinstance(kept.get("error_information"), Mapping):
        kept["error_information"] = {name: kept["error_information"].get(name) for name in _OF_ERROR}
    if kept.get("response_cost_failure_debug_info"):
        kept["response_cost_failure_debug_info"] = {
            "error_str": "no price"
        }  # the server has to know that there is none
    if isinstance(kept.get("api_base"), str):
        kept["api_base"] = (
            kept["api_base"].partition("?")[0].rpartition("@")[2]
        )  # some providers' keys stand in the address
    return kept


def _callers_metadata(details: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller of LiteLLM's SDK said of the call; the proxy tells it in the payload, among its own."""
    params = details.get("litellm_params") or {}
    metadata = params.get("metadata") or {}
    if params.get("proxy_server_request") or any(name.startswith("user_api_key") for name in metadata):
        return {}
    return {
        name: value
        for name, value in metadata.items()
        if name not in _NOT_CALLERS and not name.startswith("_") and isinstance(value, str | int | float)
    }


def _with_metadata(payload: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    metadata = payload.get("metadata") or {}
    if not own or metadata.get("requester_metadata"):
        return payload
    return {**payload, "metadata": {**metadata, "requester_metadata": own}}


def __getattr__(name: str) -> Any:
    """`logger`, for the proxy's `callbacks: tunemill.sdk.litellm.logger`: made on first use from TUNEMILL_URL and TUNEMILL_KEY."""
    if name != "logger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = TunemillLogger(Producer(os.environ["TUNEMILL_URL"], api_key=os.environ.get("TUNEMILL_KEY")))
    globals()["logger"] = made
    return made
