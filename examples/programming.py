"""`code-helper`: short questions about Python and SQL; in a third of them the model calls a tool before it answers."""

import json
from random import Random
from typing import Any

from tunemill.examples.calls import Call, Json, answer, person, system, user

QUESTIONS = 70
TOOL_CALLS = 30
PROMPT = "You help engineers with short pieces of Python and SQL. Answer with code first."

PYTHON: tuple[tuple[str, str, str], ...] = (  # name of the function, what it should do, body
    ("unique", "drops repeated items of a list but keeps their order", "return list(dict.fromkeys(items))"),
    ("chunks", "cuts a list into pieces of three", "return [items[i:i + 3] for i in range(0, len(items), 3)]"),
    ("flatten", "flattens a list of lists", "return [x for part in items for x in part]"),
    ("most_common", "returns the most frequent item", "return Counter(items).most_common(1)[0][0]"),
    ("rotate", "moves the last item to the front", "return items[-1:] + items[:-1]"),
    ("median", "returns the median of a list of numbers", "return statistics.median(items)"),
    ("pairs", "returns all neighbouring pairs", "return list(zip(items, items[1:]))"),
    ("running_total", "returns the running total", "return list(itertools.accumulate(items))"),
    ("is_sorted", "tells whether a list is in ascending order", "return all(a <= b for a, b in zip(items, items[1:]))"),
    ("longest", "returns the longest string", "return max(items, key=len)"),
)
PYTHON_ASKS = (
    "Write a Python function `{name}` that {does}.",
    "In Python, how do I write `{name}(items)`? It {does}.",
    "I need a one-liner in Python: a function that {does}, called `{name}`.",
)

SQL: tuple[tuple[str, str], ...] = (  # what to ask of a table, the query
    ("the ten newest rows of `{table}`", "SELECT * FROM {table} ORDER BY created_at DESC LIMIT 10;"),
    (
        "how many rows of `{table}` there are per month",
        "SELECT date_trunc('month', created_at), count(*)\nFROM {table} GROUP BY 1 ORDER BY 1;",
    ),
    (
        "the rows of `{table}` whose email occurs twice",
        "SELECT email, count(*) FROM {table}\nGROUP BY email HAVING count(*) > 1;",
    ),
    (
        "the average amount per customer in `{table}`",
        "SELECT customer_id, avg(amount) FROM {table}\nGROUP BY customer_id;",
    ),
    (
        "customers that have no row in `{table}`",
        "SELECT c.* FROM customers c\nLEFT JOIN {table} t ON t.customer_id = c.id WHERE t.id IS NULL;",
    ),
)
TABLES = ("orders", "invoices", "visits", "payments", "tickets", "shipments", "sign_ups", "reviews")

BUGS: tuple[tuple[str, str], ...] = (
    (
        "Why does this print [1, 1, 2]?\n\n```python\ndef add(x, seen=[]):\n    seen.append(x)\n    return seen\n```",
        "The default list is made once, when the function is defined, and shared by every call. Make it inside:\n\n"
        "```python\ndef add(x, seen=None):\n    seen = [] if seen is None else seen\n    seen.append(x)\n    return seen\n```",
    ),
    (
        "`0.1 + 0.2 == 0.3` is False in Python. Bug?",
        "No: these are binary fractions, and none of the three is exact. Compare with a tolerance:\n\n"
        "```python\nmath.isclose(0.1 + 0.2, 0.3)\n```",
    ),
    (
        "My `for x in items: items.remove(x)` leaves half of the list. Why?",
        "The loop counts positions while the list shrinks under it. Walk over a copy, or clear it:\n\n```python\nitems.clear()\n```",
    ),
    (
        "What does `UnboundLocalError: local variable 'total' referenced before assignment` mean?",
        "An assignment anywhere in a function makes the name local in all of it. Give it a value first, or say `nonlocal total`.",
    ),
)

RUN_SQL: Json = {
    "type": "function",
    "function": {
        "name": "run_sql",
        "description": "Run a read-only query and return its rows.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
SEARCH_DOCS: Json = {
    "type": "function",
    "function": {
        "name": "search_docs",
        "description": "Search the documentation of the Python standard library.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["query"],
        },
    },
}
MODULES = (
    "pathlib",
    "itertools",
    "zoneinfo",
    "dataclasses",
    "contextlib",
    "graphlib",
    "tomllib",
    "bisect",
    "shelve",
    "heapq",
)


def code_calls(rng: Random) -> list[Call]:
    """100 calls: plain questions first, then the ones with tools."""
    questions = _questions()
    plain = [
        _plain(rng, index, *pair)
        for index, pair in enumerate(rng.sample(questions, QUESTIONS - len(BUGS)) + list(BUGS))
    ]
    return plain + [call for index in range(TOOL_CALLS // 2) for call in _with_tool(rng, index)]


def _questions() -> list[tuple[str, str]]:
    """Every question that the tables above can ask, with its answer."""
    python = [
        (ask.format(name=name, does=does), f"```python\ndef {name}(items):\n    {body}\n```")
        for ask in PYTHON_ASKS
        for name, does, body in PYTHON
    ]
    sql = [
        (f"Give me the SQL for {ask.format(table=table)}.", f"```sql\n{query.format(table=table)}\n```")
        for ask, query in SQL
        for table in TABLES
    ]
    return python + sql


def _plain(rng: Random, index: int, question: str, text: str) -> Call:
    return Call(
        app="code-helper",
        model=rng.choice(("quill-code-2", "atlas-large-1")),
        messages=(system(PROMPT), user(question)),
        answer=answer(text),
        session=f"code-{index:03d}",
        user=person(rng),
    )


def _with_tool(rng: Random, index: int) -> tuple[Call, Call]:
    """Two calls of one conversation: the model asks for a tool, then answers from what the tool gave."""
    ask, tool, arguments, result, text = _database(rng, index) if index % 2 else _documentation(index)
    call_id = f"call_{index:04d}"
    asked = (system(PROMPT), user(ask))
    wanted: Json = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": tool["function"]["name"], "arguments": json.dumps(arguments)},
            }
        ],
    }
    returned: Json = {"role": "tool", "tool_call_id": call_id, "content": json.dumps(result)}
    who, session = person(rng), f"tools-{index:03d}"
    first = Call(
        app="code-helper",
        model="quill-code-2",
        messages=asked,
        answer=wanted,
        finish_reason="tool_calls",
        session=session,
        user=who,
        tools=(RUN_SQL, SEARCH_DOCS),
    )
    second = Call(
        app="code-helper",
        model="quill-code-2",
        messages=(*asked, wanted, returned),
        answer=answer(text),
        session=session,
        user=who,
        tools=(RUN_SQL, SEARCH_DOCS),
    )
    return first, second


Task = tuple[str, Json, dict[str, Any], Any, str]  # question, tool, its arguments, what it returned, the answer


def _database(rng: Random, index: int) -> Task:
    table, rows = TABLES[index // 2 % len(TABLES)], rng.randrange(100, 9000)
    query = f"SELECT count(*) FROM {table} WHERE created_at >= '2026-05-01'"  # noqa: S608  text of a sample, never run
    return (
        f"How many {table.replace('_', ' ')} did we have since the first of May?",
        RUN_SQL,
        {"query": query},
        [{"count": rows}],
        f"{rows}, by this query:\n\n```sql\n{query};\n```",
    )


def _documentation(index: int) -> Task:
    module = MODULES[index // 2 % len(MODULES)]
    page = f"library/{module}.html"
    return (
        f"Where do I find the documentation of `{module}`?",
        SEARCH_DOCS,
        {"query": module, "limit": 1},
        [{"title": module, "page": page}],
        f"On the page `{page}` of the standard library's documentation: `import {module}` and go.",
    )
