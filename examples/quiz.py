"""`maths-quiz`: problems as `maths-tutor` works them, some with a wrong answer, and what the quiz says of each: `is_correct`."""

import re
from random import Random

from tunemill.examples.calls import Call, Json, answer, person, system, user
from tunemill.examples.maths import KINDS, PROMPTS

QUESTIONS = 40
WRONG = (2, 5, 6, 11, 13, 17, 18, 22, 26, 29, 33, 38)  # places of those with a wrong answer
UNCORRECTED = (11, 22, 29, 38)  # places of those among them of which the quiz gives no better answer

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


def quiz(rng: Random) -> list[tuple[Call, str | None]]:
    """40 problems of ten kinds, each with the answer that is right where the model's is wrong."""
    calls: list[tuple[Call, str | None]] = []
    for place in range(QUESTIONS):
        question, steps, result = KINDS[place % len(KINDS)](rng)
        worked = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
        right = f"{worked}\nAnswer: {result}"
        given = f"{worked}\nAnswer: {_slipped(result, rng)}" if place in WRONG else right
        call = Call(
            app="maths-quiz",
            model=rng.choice(("atlas-large-1", "atlas-mini-1")),
            messages=(system(PROMPTS[place % len(PROMPTS)]), user(question)),
            answer=answer(given),
            session=f"quiz-{place:02d}",
            user=person(rng),
        )
        calls.append((call, right if place in WRONG else None))
    return calls


def verdict(place: int, log_id: str, ts_ms: int, better: str | None) -> Json:
    """What the quiz says of an answer, as `POST /v1/feedback` takes it."""
    said: Json = {
        "feedback_id": f"verdict-{place:02d}",
        "ts_ms": ts_ms,
        "log_id": log_id,
        "name": "is_correct",
        "score": 0 if place in WRONG else 1,
        "by": "maths-quiz",
    }
    return said if better is None or place in UNCORRECTED else said | {"correction": better}


def _slipped(result: str, rng: Random) -> str:
    """The result with another number at its end."""
    return _LAST_NUMBER.sub(lambda number: str(int(number[0]) + rng.choice((1, 2, 10))), result)
