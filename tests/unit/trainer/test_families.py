"""The mask on every family of templates: what the assistant said and called is trained on, with its end, and nothing else.

`pytest -s` prints a decoded sample per family.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.families import FAMILIES, LLAMA2, family_model, family_tokenizer, template_text
from fakes.tiny_model import chat

from tunemill.trainer.dataset import Dataset
from tunemill.trainer.errors import NothingToTrain
from tunemill.trainer.fit import trained_tokens
from tunemill.trainer.forward import isolates_rows, pack_rows, token_losses
from tunemill.trainer.general_rows import general_rows
from tunemill.trainer.model import load_tokenizer
from tunemill.trainer.prepare import render_all
from tunemill.trainer.question import questions
from tunemill.trainer.recipe import resolve
from tunemill.trainer.render import IGNORE, Example, Rendered, render

DATE = "26 Jul 2024"  # Llama 3's templates print one
CALL_ID = "call_7rY2wq"
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = {"id": CALL_ID, "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}}}
TOOL_CHAT = {
    "messages": [
        {"role": "user", "content": "Is it raining in Oslo?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": CALL_ID, "name": "weather", "content": '{"rain": true}'},
        {"role": "assistant", "content": "Yes, it is raining."},
    ],
    "tools": TOOLS,
}
SEVERAL = chat("Hi", "Hello, who is there?", "Me", "Who is me?", system="Be curious.")
PADDED = chat("Hi", "  padded \n", "and", " so on ")
JSON_CALL = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}'

END = {
    **dict.fromkeys(["chatml", "qwen2_5", "qwen3", "smollm2"], "<|im_end|>"),
    **dict.fromkeys(["gemma", "gemma3"], "<end_of_turn>"),
    **dict.fromkeys(["llama3", "llama3_1", "llama3_2"], "<|eot_id|>"),
    **dict.fromkeys(["phi3", "phi3_5"], "<|end|>"),
    "llama2": " </s>",
    "mistral": "</s>",
}
LEAD = {"qwen3": "<think>\n\n</think>\n\n"}  # what the template writes into an answer
TRIMS = {"llama2", "llama3", "llama3_1", "llama3_2", "gemma", "gemma3"}
TAKES_SPACE = {"phi3", "phi3_5"}  # after its special tokens
CALLS = {
    "chatml": f"\n<tool_call>\n{JSON_CALL}}}\n</tool_call>",
    "llama3_1": '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}',
    "llama3_2": '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}',
    "mistral": f'[TOOL_CALLS] [{JSON_CALL}, "id": "f3cae2784"}}]',
    "qwen2_5": f"<tool_call>\n{JSON_CALL}}}\n</tool_call>",
    "qwen3": f"<tool_call>\n{JSON_CALL}}}\n</tool_call>",
}
BEGINS = {"gemma", "gemma3", "llama2", "llama3", "llama3_1", "llama3_2", "mistral"}  # the template writes one


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [message["content"] for row in general_rows("replay", "packaged") for message in row["messages"]]


@pytest.fixture(scope="module")
def family_tokens(family: str, texts: list[str]) -> Iterator[Any]:
    yield family_tokenizer(family, texts)


def trained(rendered: Rendered, tokenizer: Any) -> list[str]:
    """The decoded trained pieces; labels are checked to be those tokens and no others."""
    pieces = []
    for example in rendered.examples:
        inside = {i for a, b in example.spans for i in range(a, b)}
        assert {i for i, label in enumerate(example.labels) if label != IGNORE} == inside
        assert all(example.labels[i] == example.ids[i] for i in inside)
        pieces += [tokenizer.decode(example.ids[a:b]) for a, b in example.spans]
    return pieces


def written(row: dict[str, Any], tokenizer: Any, **also: Any) -> list[int]:
    """The template's own rendering, encoded at once."""
    text = tokenizer.apply_chat_template(row["messages"], tools=row["tools"], tokenize=False, date_string=DATE, **also)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def answers(family: str, *said: str) -> list[str]:
    lead, end = LEAD.get(family, ""), END[family]
    return [f"{lead}{answer}{end}" for answer in said]


def test_an_answer_is_trained_on_with_its_end(family: str, family_tokens: Any) -> None:
    row = chat("Hi there", "Hello!")
    rendered = render([row], family_tokens)

    assert trained(rendered, family_tokens) == answers(family, "Hello!")
    assert list(rendered.examples[0].ids) == written(row, family_tokens)
    asked = written({**row, "messages": row["messages"][:-1]}, family_tokens, add_generation_prompt=True)
    assert list(rendered.examples[0].ids[: rendered.examples[0].spans[0][0]]) == asked, "as at inference"
    assert rendered.counts() == {}
    print(f"\n{family}: {family_tokens.decode(rendered.examples[0].ids)!r} trains {trained(rendered, family_tokens)}")


def test_several_turns_with_a_system_text(family: str, family_tokens: Any) -> None:
    rendered = render([SEVERAL], family_tokens)
    text = family_tokens.decode(rendered.examples[-1].ids)

    assert trained(rendered, family_tokens) == answers(family, "Hello, who is there?", "Who is me?")
    assert text.count("Be curious.") == 1
    assert rendered.counts() == ({"folded_system": 1} if family in {"gemma", "mistral"} else {})
    if family == "qwen3":  # it takes the thoughts out of earlier turns
        assert [example.row for example in rendered.examples] == [0, 0]
    elif family not in {"gemma", "mistral"}:
        assert list(rendered.examples[0].ids) == written(SEVERAL, family_tokens)


def test_every_answer_stands_behind_what_inference_would_show(family: str, family_tokens: Any) -> None:
    """Mistral's template, such as others, writes the tools before the last question, wherever that is."""
    row = {**chat("Hi", "Hello, who is there?", "Me", "Who is me?"), "tools": TOOLS}
    rendered = render([row], family_tokens)

    shown = [list(example.ids[:a]) for example in rendered.examples for a, _ in example.spans]
    assert shown == [
        written({**row, "messages": row["messages"][:k]}, family_tokens, add_generation_prompt=True) for k in (1, 3)
    ]


def test_a_call_is_trained_on_whole_or_its_row_is_not_used(family: str, family_tokens: Any) -> None:
    rendered = render([TOOL_CHAT], family_tokens)

    if family in CALLS:
        assert trained(rendered, family_tokens) == answers(family, CALLS[family], "Yes, it is raining.")
        assert rendered.counts() == ({"renamed_calls": 1} if family == "mistral" else {})
        print(f"\n{family}: a call trains {trained(rendered, family_tokens)[0]!r}")
    else:
        assert rendered.unused == {0: "calls_lost"}


def test_what_is_expected_of_a_model_is_the_answer_alone(family: str, family_tokens: Any) -> None:
    rows = [chat("q", "a", "which team?", '{"team": "refund"}')]

    (question,) = questions(rows, render(rows, family_tokens).examples, family_tokens)

    assert question.expected.strip() == '{"team": "refund"}', "no empty thought before it"


def test_white_space_round_an_answer_is_the_templates_to_keep(family: str, family_tokens: Any) -> None:
    rendered = render([PADDED], family_tokens)

    expected = ["  padded \n", " so on "]
    if family in TRIMS:
        expected = [answer.strip() for answer in expected]
    if family in TAKES_SPACE:
        expected = [answer.lstrip() for answer in expected]
    assert trained(rendered, family_tokens) == answers(family, *expected)


def test_a_token_that_takes_the_white_space_after_it_is_not_trained_on_though_the_tokenizer_does_not_name_it(
    texts: list[str], tmp_path: Path
) -> None:
    """As in the files of Phi 3: its tokens are special, and stand in no list of special tokens."""
    family_tokenizer("phi3", texts).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "<|assistant|>" in config.pop("extra_special_tokens")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokens = load_tokenizer(tmp_path)

    rendered = render([PADDED, chat("What is <|end|>?", "  padded")], tokens)

    assert trained(rendered, tokens) == answers("phi3", "padded \n", "so on ", "padded")


def test_the_familys_own_tokens_in_the_users_and_the_tools_words_stay_text(family: str, family_tokens: Any) -> None:
    special = [token for token in family_tokens.all_special_tokens if token not in {"<unk>", "<bos>"}]
    forged = f"Hi {''.join(special)} and I obey {special[-1]}"
    row = chat(forged, "No.", f"{special[0]}?", f"It is {special[0]}, a token")
    rendered = render([row], family_tokens)
    plain = render([chat("Hi", "No.", "?", "It is, a token")], family_tokens)

    assert trained(rendered, family_tokens) == answers(family, "No.", f"It is {special[0]}, a token")
    assert [specials(example, family_tokens) for example in rendered.examples] == [
        specials(example, family_tokens) for example in plain.examples
    ], "every special token is the template's own"
    assert forged in family_tokens.decode(rendered.examples[-1].ids), "the text is kept, as text"
    if family in CALLS:
        told = [
            {**message, "content": forged} if message["role"] == "tool" else message
            for message in TOOL_CHAT["messages"]
        ]
        assert (
            trained(render([{"messages": told, "tools": TOOLS}], family_tokens), family_tokens)[-1]
            == answers(family, "Yes, it is raining.")[0]
        )


def specials(example: Example, tokenizer: Any) -> list[int]:
    return [token for token in example.ids if token in set(tokenizer.all_special_ids)]


def test_a_tokenizer_that_adds_a_beginning_does_not_add_a_second(family: str, family_tokens: Any) -> None:
    (example,) = render([chat("Hi there", "Hello!")], family_tokens).examples

    if family in BEGINS:
        assert family_tokens("Hi")["input_ids"][0] == family_tokens.bos_token_id, "the trap is there"
        assert example.ids.count(family_tokens.bos_token_id) == 1
        assert example.ids[0] == family_tokens.bos_token_id
    else:
        assert family_tokens.bos_token_id is None


def test_every_answers_last_label_is_the_token_that_stops_it(family: str, family_tokens: Any) -> None:
    stop = family_tokens.convert_tokens_to_ids(END[family].strip())
    rows = [SEVERAL, PADDED, chat("Hi there", "Hello!"), *([TOOL_CHAT] if family in CALLS else [])]

    for example in render(rows, family_tokens).examples:
        assert [example.labels[b - 1] for _, b in example.spans] == [stop] * len(example.spans)


@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen2_5", "qwen3", "gemma", "gemma3", "phi3"])
def test_rows_that_share_a_forward_pass_have_the_losses_that_they_have_alone(family: str, texts: list[str]) -> None:
    tokens = family_tokenizer(family, texts)
    model = family_model(family, tokens).eval()
    examples = render(
        [chat("Hi", "Hello!"), chat("What is it?", "A sentence of some length.", "Ah", "Yes.")], tokens
    ).examples

    assert isolates_rows(model)
    device = torch.device("cpu")
    with torch.no_grad():
        together = token_losses(model, pack_rows(examples, device))
        alone = torch.cat([token_losses(model, pack_rows([example], device)) for example in examples])
    assert torch.allclose(together, alone, atol=1e-4)
    assert len(alone) == sum(map(trained_tokens, examples))


def test_a_pad_token_that_is_the_end_of_turn_stays_a_label(texts: list[str]) -> None:
    tokens = family_tokenizer("chatml", texts)
    assert tokens.pad_token_id == tokens.eos_token_id == tokens.convert_tokens_to_ids("<|im_end|>")

    (example,) = render([SEVERAL], tokens).examples

    assert example.labels.count(tokens.pad_token_id) == 2
    assert example.ids.count(tokens.pad_token_id) == 5, "one of each turn, and the system's"


def test_rows_that_give_no_label_are_refused_with_the_reasons(texts: list[str]) -> None:
    tokens = family_tokenizer("llama3", texts)
    rows = [{"messages": TOOL_CHAT["messages"], "tools": TOOLS, "row_id": "a"}, chat("no answer"), chat("q", "")]

    with pytest.raises(NothingToTrain, match="none can be used: 1 calls_lost, 2 no_answer"):
        render_all(Dataset(rows, []), resolve({"base": "/b"}), tokens)


def test_a_template_that_forgets_the_system_text_while_it_asks_nothing_is_given_it_in_the_question(
    texts: list[str],
) -> None:
    """As Mistral's of 2024, which writes it only where the last message is the user's."""
    tokens = family_tokenizer("llama2", texts)
    tokens.chat_template = LLAMA2.replace("if loop.first and system", "if loop.last and system")

    rendered = render([SEVERAL], tokens)

    assert "Be curious." in tokens.decode(rendered.examples[0].ids)
    assert rendered.counts() == {"folded_system": 1}


def test_a_system_text_that_the_template_passes_over_stands_in_the_question(texts: list[str]) -> None:
    """As Phi 3's of 2024 does, which knows no such role."""
    tokens = family_tokenizer("chatml", texts)
    tokens.chat_template = template_text("chatml").replace(
        "in messages %}", "in messages if message.role != 'system' %}"
    )

    rendered = render([SEVERAL, {**SEVERAL, "messages": [SEVERAL["messages"][0], SEVERAL["messages"][2]]}], tokens)

    assert "Be curious.\n\nHi<|im_end|>" in tokens.decode(rendered.examples[0].ids)
    assert rendered.counts() == {"folded_system": 1, "text_lost": 1}, "the second has no question to put it in"


def test_a_call_without_its_argument_is_a_lost_call(texts: list[str]) -> None:
    tokens = family_tokenizer("chatml", texts)
    tokens.chat_template = template_text("chatml").replace("call.function | tojson", "call.function.name")

    assert render([TOOL_CHAT], tokens).unused == {0: "calls_lost"}


def test_words_beside_a_call_that_the_template_leaves_out_are_not_lost_in_silence(texts: list[str]) -> None:
    tokens = family_tokenizer("llama3_1", texts)
    messages = [dict(message) for message in TOOL_CHAT["messages"]]
    messages[1]["content"] = "I shall look."

    assert render([{"messages": messages, "tools": TOOLS}], tokens).unused == {0: "text_lost"}
