"""`support-router`: a ticket in, one line of JSON out. The task that a small model visibly learns.

The rule: the team follows from what the ticket is about, the priority from its words of urgency, the reference is copied.
"""

import json
from random import Random

from tunemill.examples.calls import Call, answer, person, system, user

TICKETS = 500
PROMPT = "Route the ticket."

# What each team looks after. {ref} is the reference, the other slots are filled from SLOTS.
BODIES: dict[str, tuple[str, ...]] = {
    "billing": (
        "I was charged twice for order {ref}, {amount} each time.",
        "The invoice for {ref} shows {amount} but we agreed on {other_amount}.",
        "My card was billed {amount} for {ref} and I don't know what for.",
        "Could you send me a VAT invoice for {ref}? The one I got has the wrong company name.",
        "The discount code was not taken off the bill for {ref}.",
        "We still see an open balance of {amount} on {ref} although we paid in {month}.",
        "Why did the price of {ref} go up to {amount} on my last bill?",
        "Please change the payment method for {ref} from card to bank transfer.",
        "I got a payment reminder for {ref}, but the bank shows the {amount} left my account in {month}.",
        "A fee of {amount} was added to {ref} that nobody told me about.",
        "Our accountant needs the receipts for {ref} from {month}.",
        "{ref}: the tax on the invoice was worked out for the wrong country.",
    ),
    "shipping": (
        "My parcel {ref} has not arrived, it was due in {month}.",
        "Tracking for {ref} has said 'in transit' since {day}.",
        "The courier says {ref} was delivered to {place}, but nobody there has seen it.",
        "Can {ref} be delivered to {place} instead of my home?",
        "Where is {ref}? The {item} was supposed to come on {day}.",
        "The tracking link for {ref} shows nothing at all.",
        "{ref} is stuck at customs, what papers do you need from me?",
        "The driver left {ref} out in the rain at {place}.",
        "Please hold back delivery of {ref} until {day}, we are away.",
        "Only one of the two boxes of {ref} turned up on {day}.",
        "I moved house, the delivery address on {ref} is wrong.",
        "When will the {item} in order {ref} be dispatched?",
    ),
    "returns": (
        "The {item} from {ref} arrived broken and I want to send it back.",
        "I'd like to return the {item} I bought with {ref}, it does not fit into my room.",
        "How do I get a return label for {ref}?",
        "I sent the {item} from {ref} back in {month} and still wait for my refund.",
        "Wrong colour of {item} in {ref}, I'd like to swap it for the blue one.",
        "Please refund {ref}, the {item} is nothing like the picture.",
        "I want my money back for {ref}: the {item} stopped working after a week.",
        "Can I exchange the {item} in {ref} for a larger size?",
        "The return for {ref} was refused at {place}, what now?",
        "{ref}: you sent me a {other_item} and I had ordered a {item}. How do I send it back?",
        "I changed my mind about the {item} on {ref}, is it too late to give it back?",
        "The {item} in {ref} came with a crack, I need a replacement.",
    ),
    "account": (
        "I cannot log in any more, my customer number is {ref}.",
        "Please reset the password of account {ref}, the mail never comes.",
        "My account {ref} is locked after too many attempts.",
        "Could you change the e-mail address on account {ref}?",
        "I'd like to close account {ref} and have my data deleted.",
        "The code for two-step login on {ref} goes to my old phone.",
        "Someone signed in to my account {ref} from {place}, and it wasn't me.",
        "Please merge account {ref} with the one I opened in {month}.",
        "My name is spelled wrong in the profile of {ref}.",
        "A colleague has left, please remove her as a user of account {ref}.",
        "I want to add a second user to our account {ref}.",
        "I no longer get a confirmation mail when I sign up again with {ref}.",
    ),
    "technical": (
        "The app crashes whenever I open {ref} on my {device}.",
        "I get error 502 when I load the dashboard of workspace {ref}.",
        "Export to CSV hangs at 90 percent in project {ref}.",
        "Since the update in {month} the page of {ref} stays blank on my {device}.",
        "The API answers with a timeout for every call to {ref}.",
        "Search inside {ref} finds nothing, although the documents are there.",
        "Notifications from {ref} stopped on my {device} on {day}.",
        "Uploading a photo to {ref} fails with 'unknown format'.",
        "The printer driver for device {ref} won't install on my {device}.",
        "Sync between my {device} and {ref} has been broken since {day}.",
        "The webhook of {ref} fires three times for one event.",
        "Video in room {ref} freezes after a minute on my {device}.",
    ),
    "sales": (
        "We would like a quote for {count} more {item}s, our offer number is {ref}.",
        "Is there a volume discount on offer {ref} if we take {count} seats?",
        "Can somebody show us the enterprise plan? Your colleague gave me the number {ref}.",
        "What is the difference between the team and the business plan in offer {ref}?",
        "We're thinking of moving {count} people over to you, see request {ref}.",
        "Does the plan in quote {ref} come with a trial?",
        "I'd like to talk to someone about a partnership, reference {ref}.",
        "Our school wants {count} licences, is the price in {ref} the one for education?",
        "How long is the offer {ref} good for? We decide in {month}.",
        "Please add {count} {item}s to quote {ref} and send it again.",
        "Could you bring a demo {item} to our fair in {place}? Request {ref}.",
        "We compare three vendors; who can answer questions about proposal {ref}?",
    ),
}

SLOTS: dict[str, tuple[str, ...]] = {
    "amount": ("$12.50", "49 EUR", "$180", "£35", "$7.99", "220 EUR", "$64", "£1,250"),
    "other_amount": ("$10", "39 EUR", "$150", "£30", "$5.99", "200 EUR"),
    "month": ("January", "February", "March", "April", "early May", "June"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "place": ("Leeds", "Porto", "Graz", "the neighbour", "our office", "Lyon", "the back door", "Utrecht"),
    "item": ("lamp", "desk", "kettle", "backpack", "keyboard", "chair", "headset", "mirror", "toaster", "rug"),
    "other_item": ("bicycle pump", "garden hose", "wall clock", "bread tin"),
    "device": ("phone", "tablet", "laptop", "old iPad", "work computer", "Android"),
    "count": ("12", "25", "40", "60", "150", "300"),
}

OPENINGS = ("", "", "", "", "Hi! ", "Hello team. ", "Good morning. ", "Hey there! ", "Dear support,\n\n", "Hello,\n")
BACKGROUND = (
    "", "", "", "",
    " I have been a customer for {years} years.",
    " This is the {nth} time I write about it.",
    " I tried the help page first.",
    " My colleague {name} can tell you more.",
    " I called on {day} but nobody picked up.",
    " Otherwise I am quite happy with you.",
)  # fmt: skip
URGENT = (
    " This is urgent.",
    " Please fix this immediately!",
    " I need an answer today.",
    " It can't wait, we lose money every hour.",
    " ASAP please!",
    " This is an emergency for us.",
    " We need this solved within the hour.",
    " Very urgent, please call me right away.",
)
URGENT_FIRST = ("URGENT: ", "Emergency! ", "ASAP: ", "Please help right now. ")
PATIENT = (
    " No rush.",
    " Take your time.",
    " There is no hurry at all.",
    " Whenever you get to it is fine.",
    " It can wait until next week.",
    " Not urgent, just when you have a moment.",
)
CLOSINGS = ("", "", "", "", " Thanks!", " Thank you.", "\nBest, {name}", "\n\nRegards\n{name}", " Cheers")
NAMES = ("Amara", "Bo", "Chiara", "Deniz", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # no I and no O: they read like digits

# Private data as people paste it into tickets; addresses, numbers and cards are ones reserved for examples.
PRIVATE = (
    " You can reach me at {mail}.",
    " My number is {phone}.",
    " I paid with card 4111 1111 1111 1111.",
    " Write to {mail} or call {phone}.",
    " My IBAN is DE89 3704 0044 0532 0130 00.",
)
WITH_PRIVATE_DATA = range(20, TICKETS, 40)  # which tickets carry some


def tickets(rng: Random) -> list[Call]:
    """500 tickets and their answers; no two are alike, and no reference comes twice."""
    refs = rng.sample([f"{letter}{number}" for letter in LETTERS for number in range(100, 1000)], TICKETS)
    teams = list(BODIES)
    return [_ticket(rng, index, teams[index % len(teams)], ref) for index, ref in enumerate(refs)]


def routed(team: str, ref: str, priority: str) -> str:
    """The answer: one line of compact JSON."""
    return json.dumps({"team": team, "ref": ref, "priority": priority}, separators=(",", ":"))


def _ticket(rng: Random, index: int, team: str, ref: str) -> Call:
    # Each round over the teams takes the next body, so that every one comes up equally often.
    body = BODIES[team][index // len(BODIES) % len(BODIES[team])]
    priority = rng.choices(("high", "normal", "low"), weights=(35, 45, 20))[0]
    private = rng.choice(PRIVATE) if index in WITH_PRIVATE_DATA else ""
    text = _text(rng, _fill(rng, body, ref), priority, private)
    return Call(
        app="support-router",
        model=rng.choice(("atlas-large-1", "atlas-large-1", "atlas-mini-1")),
        messages=(system(PROMPT), user(text)),
        answer=answer(routed(team, ref, priority)),
        session=f"ticket-{index:04d}",
        user=person(rng),
        consent="none" if index % 50 == 7 else "train",  # a few people said no
        metadata={"channel": rng.choice(("mail", "form", "chat"))},
    )


def _text(rng: Random, body: str, priority: str, private: str) -> str:
    """The whole ticket: opening, body, background, private data, words of urgency and closing."""
    opening, background, closing = rng.choice(OPENINGS), rng.choice(BACKGROUND), rng.choice(CLOSINGS)
    last = ""
    if priority == "high":
        # Whoever shouts first does not greet.
        opening, last = (rng.choice(URGENT_FIRST), "") if rng.random() < 0.3 else (opening, rng.choice(URGENT))
    elif priority == "low":
        last = rng.choice(PATIENT)
    around = _fill(rng, background + private + last + closing, "")
    return opening + body + around


def _fill(rng: Random, template: str, ref: str) -> str:
    """The template with every slot filled."""
    name = rng.choice(NAMES)
    return template.format(
        ref=ref,
        name=name,
        mail=f"{name.lower()}.{rng.choice(('berg', 'moss', 'reed', 'stone'))}@example.{rng.choice(('com', 'org'))}",
        phone=f"+1 202 555 01{rng.randrange(100):02d}",
        years=rng.randrange(2, 9),
        nth=rng.choice(("second", "third", "fourth")),
        **{slot: rng.choice(values) for slot, values in SLOTS.items()},
    )
