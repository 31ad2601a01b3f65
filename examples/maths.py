"""`maths-tutor`: word problems, worked step by step. Every number is worked out here, so every answer is right."""

from collections.abc import Callable
from random import Random

from tunemill.examples.calls import Call, answer, person, system, user

PROBLEMS = 120
PROMPTS = (
    "You are a patient math tutor.",
    "You are a careful maths tutor. Show each step.",
    "Explain the math to a pupil of twelve, one step per line.",
)
NAMES = ("Maya", "Tom", "Aisha", "Luca", "Nora", "Ken", "Sofia", "Omar", "Ida", "Pavel")
THINGS = ("apples", "stickers", "marbles", "books", "pencils", "seashells", "stamps", "buttons")

Problem = tuple[str, list[str], str]  # the question, the steps, the answer


def problems(rng: Random) -> list[Call]:
    """120 problems of ten kinds, no question twice."""
    calls: list[Call] = []
    seen: set[str] = set()
    while len(calls) < PROBLEMS:
        question, steps, result = KINDS[len(calls) % len(KINDS)](rng)
        if question not in seen:
            seen.add(question)
            calls.append(_call(rng, len(calls), question, steps, result))
    return calls


def _call(rng: Random, index: int, question: str, steps: list[str], result: str) -> Call:
    worked = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
    return Call(
        app="maths-tutor",
        model=rng.choice(("atlas-large-1", "atlas-mini-1")),
        messages=(system(PROMPTS[index % len(PROMPTS)]), user(question)),
        answer=answer(f"{worked}\nAnswer: {result}"),
        session=f"lesson-{index:03d}",
        user=person(rng),
    )


def _share(rng: Random) -> Problem:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    friends, each, left = rng.randrange(3, 9), rng.randrange(4, 15), rng.randrange(1, 3)
    total = friends * each + left
    return (
        f"{name} has {total} {thing} and shares them equally among {friends} friends. "
        "How many does each friend get, and how many are left over?",
        [
            f"Divide {total} by {friends}: {friends} × {each} = {total - left}.",
            f"Take that from {total}: {total} - {total - left} = {left}.",
        ],
        f"{each} each, {left} left over",
    )


def _shop(rng: Random) -> Problem:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    count, price = rng.randrange(3, 12), rng.randrange(2, 9)
    paid = (count * price // 10 + 1) * 10
    return (
        f"{name} buys {count} {thing} at ${price} each and pays with ${paid}. How much change does {name} get?",
        [f"The cost is {count} × {price} = {count * price}.", f"The change is {paid} - {count * price}."],
        f"${paid - count * price}",
    )


def _train(rng: Random) -> Problem:
    speed, hours = rng.randrange(6, 16) * 10, rng.randrange(2, 7)
    return (
        f"A train travels at {speed} km/h for {hours} hours and then another {speed // 2} km. How far does it go?",
        [
            f"Distance is speed times time: {speed} × {hours} = {speed * hours} km.",
            f"Add the rest: {speed * hours} + {speed // 2} = {speed * hours + speed // 2} km.",
        ],
        f"{speed * hours + speed // 2} km",
    )


def _percent(rng: Random) -> Problem:
    price, percent = rng.randrange(2, 20) * 20, rng.choice((10, 15, 20, 25, 30))
    off = price * percent // 100
    return (
        f"A coat costs ${price}. In the sale it is {percent}% cheaper. What is the sale price?",
        [
            f"{percent}% of {price} is {price} × {percent} / 100 = {off}.",
            f"Take it off: {price} - {off} = {price - off}.",
        ],
        f"${price - off}",
    )


def _rectangle(rng: Random) -> Problem:
    width, length = rng.randrange(3, 15), rng.randrange(16, 40)
    return (
        f"A garden is {length} m long and {width} m wide. What is its area, and how long is the fence around it?",
        [
            f"Area = length × width = {length} × {width} = {length * width} m².",
            f"Perimeter = 2 × ({length} + {width}) = {2 * (length + width)} m.",
        ],
        f"{length * width} m² and {2 * (length + width)} m",
    )


def _equation(rng: Random) -> Problem:
    factor, unknown, added = rng.randrange(2, 10), rng.randrange(2, 20), rng.randrange(1, 30)
    total = factor * unknown + added
    return (
        f"Solve the equation {factor}x + {added} = {total}.",
        [
            f"Subtract {added} on both sides: {factor}x = {total - added}.",
            f"Divide by {factor}: x = {unknown}.",
            f"Check: {factor} × {unknown} + {added} = {total}.",
        ],
        f"x = {unknown}",
    )


def _average(rng: Random) -> Problem:
    name, mean = rng.choice(NAMES), rng.randrange(60, 85)
    a, b = rng.randrange(2, 9), rng.randrange(2, 9)
    scores = [mean - a, mean + b, mean + a - b]
    return (
        f"{name} scored {scores[0]}, {scores[1]} and {scores[2]} points in three tests. What is the average?",
        [f"Add them: {scores[0]} + {scores[1]} + {scores[2]} = {3 * mean}.", f"Divide by 3: {3 * mean} / 3 = {mean}."],
        f"{mean} points",
    )


def _ages(rng: Random) -> Problem:
    younger, older = rng.sample(NAMES, 2)
    age, gap = rng.randrange(5, 20), rng.randrange(2, 12)
    return (
        f"{older} is {gap} years older than {younger}. Together they are {2 * age + gap}. How old is {younger}?",
        [
            f"Call the age of {younger} x. Then x + (x + {gap}) = {2 * age + gap}.",
            f"So 2x = {2 * age}, and x = {age}.",
        ],
        f"{younger} is {age}",
    )


def _division(rng: Random) -> Problem:
    divisor, tens, ones = rng.randrange(3, 10), rng.randrange(11, 50), rng.randrange(0, 10)
    quotient = tens * 10 + ones
    most = divisor * tens * 10
    return (
        f"Use long division to work out {quotient * divisor} ÷ {divisor}.",
        [
            f"{divisor} goes into {quotient * divisor} at least {tens * 10} times: {divisor} × {tens * 10} = {most}.",
            f"What is left is {quotient * divisor} - {most} = {divisor * ones}.",
            f"{divisor} goes into {divisor * ones} exactly {ones} times.",
        ],
        f"{quotient}",
    )


def _dice(rng: Random) -> Problem:
    red, blue, green = (rng.randrange(2, 12) for _ in range(3))
    total = red + blue + green
    return (
        f"A bag holds {red} red, {blue} blue and {green} green balls. What is the probability of drawing a red one?",
        [
            f"There are {red} + {blue} + {green} = {total} balls.",
            f"{red} of them are red, so the chance is {red} in {total}.",
        ],
        f"{red}/{total}",
    )


KINDS: tuple[Callable[[Random], Problem], ...] = (
    _share,
    _shop,
    _train,
    _percent,
    _rectangle,
    _equation,
    _average,
    _ages,
    _division,
    _dice,
)
