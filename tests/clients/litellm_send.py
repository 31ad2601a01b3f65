"""Makes each case's call with LiteLLM, whose generic webhook or tunemill's own callback tells of it."""

import argparse
import asyncio
import os
from typing import Any

import calls


async def main() -> None:
    parser = calls.parser()
    parser.add_argument(
        "--callback", default="json_array", help="tunemill, or the webhook's form: json_array, ndjson, single"
    )
    arguments = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it is fetched
    import litellm

    logged = asyncio.Event()  # LiteLLM tells its callbacks, in this order, from a task of its own
    if arguments.callback == "tunemill":
        from tunemill.sdk import Producer
        from tunemill.sdk.litellm import TunemillLogger

        with Producer(arguments.to, api_key=arguments.key) as producer:
            litellm.callbacks = [TunemillLogger(producer), _announcer(logged)]
            await _call_all(litellm, arguments, logged)
            if not producer.flush(30):
                raise SystemExit(f"not everything was sent: {producer.stats()}")
    else:
        webhook = _webhook(arguments)
        litellm.callbacks = [webhook, _announcer(logged)]
        await _call_all(litellm, arguments, logged)
        await webhook.flush_queue()


def _webhook(arguments: argparse.Namespace) -> Any:
    from litellm.integrations.generic_api.generic_api_callback import GenericAPILogger

    return GenericAPILogger(
        endpoint=f"{arguments.to}/v1/litellm",
        headers={"Authorization": f"Bearer {arguments.key}"},
        log_format=arguments.callback,
    )


async def _call_all(litellm: Any, arguments: argparse.Namespace, logged: asyncio.Event) -> None:
    for case, request in calls.cases(arguments):
        noted = calls.noted(request)
        response_id = await _complete(
            litellm,
            {**request, "model": f"openai/{request['model']}", "api_base": arguments.model_url},
            user=noted["user_id"],
            metadata={
                "session_id": noted["session_id"],
                "tags": noted["tags"],
                "spend_logs_metadata": noted["metadata"],
            },
        )
        await asyncio.wait_for(logged.wait(), 10)
        logged.clear()
        calls.tell(case, response_id=response_id)


def _announcer(logged: asyncio.Event) -> Any:
    from litellm.integrations.custom_logger import CustomLogger

    class Announcer(CustomLogger):
        async def async_log_success_event(self, *call: Any, **named: Any) -> None:
            logged.set()

        async def async_log_failure_event(self, *call: Any, **named: Any) -> None:
            logged.set()

    return Announcer()


async def _complete(litellm: Any, request: dict[str, Any], **more: Any) -> str | None:
    try:
        answer = await litellm.acompletion(api_key=calls.MODEL_KEY, num_retries=0, max_retries=0, **request, **more)
        if request.get("stream"):
            return [chunk.id async for chunk in answer][-1]
        return answer.id
    except litellm.RateLimitError:
        return None


if __name__ == "__main__":
    asyncio.run(main())
