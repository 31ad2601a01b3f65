"""Makes each case's call with the drop-in openai client of Langfuse 2, and scores it."""

import os
import uuid

import calls


def main() -> None:
    arguments = calls.parser().parse_args()
    os.environ |= {
        "LANGFUSE_HOST": arguments.to,
        "LANGFUSE_PUBLIC_KEY": "pk-tunemill",
        "LANGFUSE_SECRET_KEY": arguments.key,
    }
    from langfuse import Langfuse
    from langfuse.openai import OpenAI, openai

    langfuse = Langfuse()
    client = OpenAI(base_url=arguments.model_url, api_key=calls.MODEL_KEY, max_retries=0)
    for case, request in calls.cases(arguments):
        trace_id = str(uuid.uuid4())
        langfuse.trace(id=trace_id, name="answer a customer", **calls.noted(request))
        response_id = calls.complete(client, request, name=case, trace_id=trace_id, **calls.noted(request))
        langfuse.score(trace_id=trace_id, name="helpful", value=0.75, comment=f"of {case}")
        openai.flush_langfuse()
        langfuse.flush()
        calls.tell(case, response_id=response_id, trace_id=trace_id)


if __name__ == "__main__":
    main()
