"""Makes each case's call with an openai client that tunemill's own SDK wraps."""

import json

import calls
import openai

from tunemill.sdk import Producer, log_context, wrap


def main() -> None:
    arguments = calls.parser().parse_args()
    with Producer(arguments.to, app="shop", api_key=arguments.key) as producer:
        client = wrap(openai.OpenAI(base_url=arguments.model_url, api_key=calls.MODEL_KEY, max_retries=0), producer)
        create = {"chat": client.chat.completions.create, "responses": client.responses.create}
        for case in json.loads(arguments.cases.read_text(encoding="utf-8")):
            request = case["request"]
            with log_context(**calls.noted(request)):
                try:
                    answer = create[case["api"]](**request)
                    if request.get("stream"):
                        list(answer)
                except openai.APIStatusError:
                    pass
            calls.tell(case["name"])
        if not producer.flush(30):
            raise SystemExit(f"not everything was sent: {producer.stats()}")


if __name__ == "__main__":
    main()
