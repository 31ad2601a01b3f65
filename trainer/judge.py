"""A model elsewhere compares the tuned model's answers with the base model's: any server that speaks OpenAI's chat completions.

Off unless the trainer's own environment names one, for the rows leave the machine: an operator decides that, never a recipe. Each
pair is judged in both orders, because judges favour a place (arXiv:2306.05685); where they disagree it is a tie.
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any, NamedTuple

import httpx
import msgspec

from tunemill.trainer.question import Question
from tunemill.trainer.score import Answered

URL, MODEL, KEY = "TUNEMILL_JUDGE_URL", "TUNEMILL_JUDGE_MODEL", "TUNEMILL_JUDGE_KEY"
_AT_ONCE = 4
_TIMEOUT_S = 120.0
_BETTER = re.compile(r'"better"\s*:\s*"(A|B|tie)"')
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_JUDGED = {"win", "loss", "tie"}
_TRIED = 8  # first answers; if none of them is judged, the rest is not sent
_UNREADABLE = "unreadable"
# Worth another try, as are 429 and 5xx.
_PASSES = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
_WAIT_S = 2.0  # before it, unless the judge says how long
_LONGEST_WAIT_S = 30.0
_NAME = re.compile(r"[\w.:/@+-]{1,200}", re.ASCII)  # of a model; a stranger may write anything there
_NAMES = 8


class Judge(msgspec.Struct, frozen=True):
    """Where the judge is, as the operator set it. Never printed: it holds a key."""

    url: str  # such as https://host/v1
    model: str
    key: str

    def __repr__(self) -> str:
        return f"Judge({self.url!r}, {self.model!r})"


class Pair(msgspec.Struct, frozen=True):
    """A question with the two answers to compare."""

    question: Question
    before: str
    after: str


class _Asking(NamedTuple):
    """What every request needs."""

    client: httpx.Client
    judge: Judge
    prompt: str
    sleep: Callable[[float], None]
    again: list[float]  # the waits before second tries, as they come
    named: set[str]  # the models that the replies name: an alias may stand for another each month

    def post(self, shown: Mapping[str, Any]) -> httpx.Response:
        """The reply to one request, which is made a second time where that may help.

        Raises:
            httpx.HTTPError: there is none, or it is an error.
        """
        try:
            return self._post(shown)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.TOO_MANY_REQUESTS and not error.response.is_server_error:
                raise
            wait_s = _asked_wait_s(error.response.headers.get("retry-after", ""))
        except _PASSES:
            wait_s = _WAIT_S
        self.again.append(wait_s)
        self.sleep(wait_s)
        return self._post(shown)

    def _post(self, shown: Mapping[str, Any]) -> httpx.Response:
        messages = [
            {"role": "system", "content": self.prompt},
            {"role": "user", "content": json.dumps(shown, ensure_ascii=False)},
        ]
        request = {"model": self.judge.model, "messages": messages, "temperature": 0}
        headers = {"Authorization": f"Bearer {self.judge.key}"} if self.judge.key else {}
        reply = self.client.post(f"{self.judge.url}/chat/completions", json=request, headers=headers)
        return reply.raise_for_status()


def configured(environment: Mapping[str, str]) -> Judge | None:
    """The judge that the environment names; None unless it names an address and a model."""
    url, model = environment.get(URL, ""), environment.get(MODEL, "")
    return Judge(url.rstrip("/"), model, environment.get(KEY, "")) if url and model else None


def judge_answers(
    judge: Judge,
    asked: Sequence[Question],
    before: Sequence[Answered],
    after: Sequence[Answered],
    *,
    rows: int,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Have the first answers compared. What fails twice is counted and harms nothing; no text is in the result."""
    pairs = [Pair(*one) for one in zip(asked, _texts(before), _texts(after), strict=True)][:rows]
    prompt = (files("tunemill.trainer") / "judge_prompt.md").read_text(encoding="utf-8")
    with httpx.Client(timeout=_TIMEOUT_S) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
        asking = _Asking(client, judge, prompt, sleep, [], set())
        said = list(pool.map(lambda pair: _compare(asking, pair), pairs[:_TRIED]))
        if _JUDGED.isdisjoint(said):  # and each may have taken minutes to fail
            said += ["not_asked"] * len(pairs[_TRIED:])
        else:
            said += pool.map(lambda pair: _compare(asking, pair), pairs[_TRIED:])
    counted = Counter(said)
    why = {reason: count for reason, count in counted.items() if reason not in _JUDGED}
    return {
        "wins": counted["win"],
        "losses": counted["loss"],
        "ties": counted["tie"],
        "failed": sum(why.values()),
        "failures": why,
        "retried": len(asking.again),
        "rows": len(pairs),
        "model": judge.model,
        "models_named": sorted(asking.named)[:_NAMES],
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
    }


def _texts(answers: Iterable[Answered]) -> list[str]:
    return [answer.text for answer in answers]


def _compare(asking: _Asking, pair: Pair) -> str:
    """win, loss or tie of the tuned model, or why there is no judgement."""
    shown = {"conversation": list(pair.question.messages), "reference": pair.question.expected}
    try:
        tuned_is_b = _ask(asking, {**shown, "A": pair.before, "B": pair.after})
        tuned_is_a = _ask(asking, {**shown, "A": pair.after, "B": pair.before})
    except httpx.HTTPStatusError as error:
        return f"http_{error.response.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    except ValueError:
        return _UNREADABLE
    return {("B", "A"): "win", ("A", "B"): "loss"}.get((tuned_is_b, tuned_is_a), "tie")


def _ask(asking: _Asking, shown: Mapping[str, Any]) -> str:
    """Which of the two is better.

    Raises:
        ValueError: the reply says nothing of the kind.
    """
    reply = asking.post(shown).json()
    try:
        found = _BETTER.search(reply["choices"][0]["message"]["content"])
        if isinstance(model := reply.get("model"), str) and _NAME.fullmatch(model):
            asking.named.add(model)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError("no chat completion") from error
    if found is None:
        raise ValueError("no judgement")
    return found[1]


def _asked_wait_s(retry_after: str) -> float:
    """The seconds that a judge wants to be left alone, up to a limit; a date is not read."""
    return min(float(retry_after), _LONGEST_WAIT_S) if _SECONDS.fullmatch(retry_after) else _WAIT_S
