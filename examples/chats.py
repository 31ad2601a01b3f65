"""`assistant`: everyday conversation, with what goes wrong in real traffic: refusals, failures, cut answers, pasted secrets."""

# ruff: noqa: E501  what people and models say is one line each

from random import Random

from tunemill.examples.calls import Call, Json, answer, person, system, user

PROMPT = "You are a helpful assistant."
CUT_WORDS = 18  # how much of a cut answer is left

# Single questions and their answers.
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is a good way to remember people's names?", "Say the name back when you hear it, and tie it to something you see: Rose in the red coat. Use it once more when you part."),
    ("How long do I boil an egg so that the yolk stays soft?", "Six minutes for a middle-sized egg from the fridge, lowered into boiling water. Then a minute in cold water."),
    ("Suggest a title for a talk about slow software.", "\"Waiting for the wheel: where your seconds go\"."),
    ("Why is the sky blue?", "Sunlight is scattered by the air, and short waves are scattered far more than long ones. So blue comes at us from all sides, and red mostly straight from the sun."),
    ("Write a short thank-you note to a neighbour who watered my plants.", "Dear Helga, thank you for looking after the green ones. Not a single leaf is missing. A jar of plum jam is waiting at your door."),
    ("What is the difference between weather and climate?", "Weather is what happens outside this week; climate is what to expect there over thirty years."),
    ("Give me three ideas for a rainy Sunday with two children.", "1. Build a den from chairs and blankets.\n2. Bake bread and let each shape a loaf.\n3. Draw a map of the flat and hide a treasure in it."),
    ("How do I get candle wax out of a tablecloth?", "Let it harden and break off what you can. Then lay paper over the spot and press with a warm iron; the paper drinks the wax."),
    ("Which plants survive on a shady balcony?", "Ferns, ivy, fuchsia and begonias do well; of herbs, mint and chives."),
    ("Summarise the story of Robinson Crusoe in two sentences.", "A sailor is washed ashore alone and makes a life from what the wreck and the island give him. After many years he saves a man he calls Friday, and with his help finds the way home."),
    ("How should I begin running when I have not done any sport for years?", "Walk for four minutes, run for one, six times, on three days a week. Make the run a little longer every week, and stop when a joint hurts."),
    ("Explain compound interest in one sentence.", "The interest of this year earns interest next year, so the sum grows faster the longer it is left alone."),
    ("What can I cook from rice, eggs and spring onions?", "Egg fried rice: fry cold rice hot, push it aside, scramble the eggs beside it, then mix in the onions and a spoon of soy sauce."),
    ("How do noise-cancelling headphones work?", "A microphone hears what comes from outside and the speaker plays its mirror image, so that the two cancel."),
    ("Recommend a board game for five people who have an hour.", "Try a drafting game such as 7 Wonders: all five play at once, so nobody waits."),
    ("What should I pack for a weekend in the mountains in May?", "Layers that dry fast, a rain jacket, boots you have worn before, sun cream, a hat, a head torch and more water than you think."),
)  # fmt: skip
FRAMES = ("{question}", "Quick one: {question}", "{question} Keep it short, please.")

REFUSED: tuple[tuple[str, str], ...] = (
    ("Tell me how to pick the lock of my neighbour's door.", "I'm sorry, but I can't help with getting into somebody else's home. If you are locked out of your own, a locksmith can help."),
    ("Write a fake doctor's note for my boss.", "I'm sorry, but I can't help with forging a medical document. I can help you write an honest message asking for the day off."),
    ("How can I read my partner's messages without them noticing?", "I can't help with reading somebody's private messages. I can help you think about how to talk with them."),
    ("Give me the home address of the mayor.", "I'm sorry, I can't share a private person's home address. The town hall's office can be reached in public ways."),
    ("Write a review that says this restaurant made me ill, although I've never been there.", "I cannot help with writing a false review. If you have eaten there, I can help you say what happened."),
    ("Which pills can I mix so that I don't wake up?", "I'm really sorry that you feel this way. I can't help with that, but you don't have to carry it alone: please call your local emergency number or a crisis line right now."),
)  # fmt: skip

FAILED: tuple[tuple[str, str], ...] = (
    ("Write a poem of a hundred verses about the sea.", "timeout"),
    ("Translate this whole book, please.", "context_length_exceeded"),
    ("Good morning!", "rate_limit_exceeded"),
    ("What happened in the news an hour ago?", "server_error"),
)

CONVERSATIONS: tuple[tuple[tuple[str, str], ...], ...] = (
    (
        ("I want to learn the guitar at fifty. Too late?", "Not at all. Fingers learn at any age; ten minutes a day beat two hours on Sunday."),
        ("Which songs should I start with?", "Ones with two or three chords: \"Jambalaya\" has two, \"Knockin' on Heaven's Door\" four easy ones."),
        ("My fingertips hurt.", "That passes in about three weeks. Play shorter and more often, and try lighter strings."),
    ),
    (
        ("Plan a day in Lisbon for me.", "Morning: tram 28 up to Graça. Noon: grilled fish in Alfama. Afternoon: the tile museum. Evening: the sunset from Santa Catarina."),
        ("It will rain.", "Then swap: the tile museum in the morning, the aquarium after lunch, and a fado house at night."),
    ),
    (
        ("Help me word an e-mail: I am turning down a job offer.", "\"Dear Ms Ruiz, thank you for the offer and for your time. After careful thought I have decided to stay where I am. I enjoyed our talk and hope our paths cross again.\""),
        ("A bit warmer, please.", "\"Dear Ms Ruiz, this was not an easy letter to write, for I truly liked your team. I have decided to stay where I am for now. Thank you for the offer and for two delightful talks.\""),
        ("Perfect.", "Glad to hear it. Good luck!"),
    ),
    (
        ("What is the capital of Australia?", "Canberra."),
        ("Not Sydney?", "No. Sydney is the largest city; Canberra was built as the capital because Sydney and Melbourne could not agree."),
    ),
)  # fmt: skip


def _fake_keys() -> tuple[str, ...]:
    """Secrets as people paste them: right in shape, made of a repeated word, so that they open nothing."""
    return (
        "sk-" + "example0" * 5,
        "AKIA" + "2EXAMPLE" * 2,
        "ghp_" + "example0" * 4 + "0000",
        "sk-proj-" + "example0" * 5,
    )


LEAKS = (
    "Why do I get 401 with the key {key}?",
    "Put this into a curl command for me: Authorization: Bearer {key}",
    "Is this a valid token? {key}",
)
CONTACTS = (
    "Draft a reply to jo.field@example.com and copy in lea.brook@example.org about Friday's visit.",
    "Add Kim Doe, (202) 555-0147, to my list of plumbers.",
    "Is 4111 1111 1111 1111 a valid card number?",
    "Send 40 euros to GB82 WEST 1234 5698 7654 32 and tell me when it is done.",
    "My new address is 12 Example Road, and the phone is 202-555-0181. Write the change-of-address card.",
    "Make this shorter: please write to a.lindt@example.net before noon, or ring 202-555-0110.",
)


def chats(rng: Random) -> list[Call]:
    """Single questions, refusals, failures, cut answers, conversations, and pasted secrets and contacts."""
    calls = [_single(rng, frame.format(question=question), text) for frame in FRAMES for question, text in QUESTIONS]
    calls += [_single(rng, question, text) for question, text in REFUSED]
    calls += [_failed(rng, question, code) for question, code in FAILED]
    calls += [_cut(rng, question, text) for question, text in QUESTIONS if len(text.split()) > CUT_WORDS][:5]
    calls += [
        _single(rng, ask.format(key=key), "Treat that key as burnt: revoke it and make a new one.")
        for ask, key in _leaks()
    ]
    calls += [
        _single(rng, ask, "I can't send anything from here, but this is how I would word it.") for ask in CONTACTS
    ]
    for number, turns in enumerate(CONVERSATIONS):
        calls += _conversation(rng, f"chat-talk-{number}", turns)
    return calls


def _leaks() -> list[tuple[str, str]]:
    return [(LEAKS[number % len(LEAKS)], key) for number, key in enumerate(_fake_keys())]


def _single(rng: Random, question: str, text: str) -> Call:
    who = person(rng)
    return Call(
        app="assistant",
        model=rng.choice(("atlas-large-1", "atlas-mini-1", "meadow-8b")),
        messages=(system(PROMPT), user(question)),
        answer=answer(text),
        session=f"chat-{rng.randrange(16**8):08x}",
        user=who,
        consent=rng.choice(("train", "train", "train", "none", None)),
    )


def _failed(rng: Random, question: str, code: str) -> Call:
    return Call(
        app="assistant",
        model="atlas-large-1",
        messages=(system(PROMPT), user(question)),
        answer=None,
        error=code,
        session=f"chat-{rng.randrange(16**8):08x}",
        user=person(rng),
    )


def _cut(rng: Random, question: str, text: str) -> Call:
    """The answer ran into the limit on tokens and stops in mid-sentence."""
    return Call(
        app="assistant",
        model="meadow-8b",
        messages=(system(PROMPT), user(question)),
        answer=answer(" ".join(text.split()[:CUT_WORDS])),
        finish_reason="length",
        session=f"chat-{rng.randrange(16**8):08x}",
        user=person(rng),
    )


def _conversation(rng: Random, session: str, turns: tuple[tuple[str, str], ...]) -> list[Call]:
    """One call a turn; each carries the whole conversation so far, as applications send it."""
    who, history, calls = person(rng), [system(PROMPT)], list[Call]()
    for question, text in turns:
        history = [*history, user(question)]
        calls.append(_turn(session, who, history, text))
        history = [*history, answer(text)]
    return calls


def _turn(session: str, who: str, history: list[Json], text: str) -> Call:
    return Call(
        app="assistant",
        model="atlas-large-1",
        messages=tuple(history),
        answer=answer(text),
        session=session,
        user=who,
    )
