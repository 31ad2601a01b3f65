"""Which chat template a run uses, and that the plain one is one like any other."""

from pathlib import Path
from typing import Any

import pytest
from fakes.tiny_model import chat, tiny_tokenizer

from tunemill.trainer.errors import InvalidRun
from tunemill.trainer.identity import BaseIdentity, identify, run_key
from tunemill.trainer.recipe import resolve
from tunemill.trainer.render import render
from tunemill.trainer.template import OWN, PLAIN, settle_template

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}


@pytest.fixture
def bare() -> Any:
    """A base model's tokenizer: no template, and an end of text alone."""
    tokenizer = tiny_tokenizer(["Is it raining in Oslo? Yes."])
    tokenizer.chat_template = None
    return tokenizer


def test_a_model_without_a_template_gets_the_plain_one(bare: Any, tmp_path: Path) -> None:
    assert settle_template(bare, None) == PLAIN

    row = chat("Hi", "Hello!", "Rain?", "Yes.", system="Be brief.")
    (example,) = render([row], bare).examples

    assert bare.decode(example.ids) == (
        "### System:\nBe brief.\n\n### User:\nHi\n\n### Assistant:\nHello!<|im_end|>\n\n"
        "### User:\nRain?\n\n### Assistant:\nYes.<|im_end|>\n\n"
    )
    assert [bare.decode(example.ids[a:b]) for a, b in example.spans] == ["Hello!<|im_end|>", "Yes.<|im_end|>"]
    asked = bare.apply_chat_template(row["messages"][:-1], add_generation_prompt=True, tokenize=False)
    assert bare.decode(example.ids[: example.spans[-1][0]]) == asked

    from transformers import AutoTokenizer

    bare.save_pretrained(tmp_path)
    assert settle_template(AutoTokenizer.from_pretrained(tmp_path), None) == OWN, "it is saved with the result"


def test_the_plain_template_writes_calls_and_their_results(bare: Any) -> None:
    settle_template(bare, None)
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "no"},
        {"role": "assistant", "content": "No."},
    ]
    (example,) = render([{"messages": messages, "tools": [{"name": "weather"}]}], bare).examples

    assert [bare.decode(example.ids[a:b]) for a, b in example.spans] == [
        '\n### Call:\n{"name": "weather", "arguments": {"city": "Oslo"}}<|im_end|>',
        "No.<|im_end|>",
    ]
    assert bare.decode(example.ids).startswith('### Tools:\n[{"name": "weather"}]\n\n### User:\nRain?\n\n')


def test_a_recipe_may_name_a_template(bare: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
                    "{% if add_generation_prompt %}[assistant]{% endif %}")  # fmt: skip

    assert settle_template(bare, str(file)) == "mine.jinja"

    (example,) = render([chat("Hi", "Hello!")], bare).examples
    assert bare.decode(example.ids) == "[user]Hi<|im_end|>[assistant]Hello!<|im_end|>"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{% for m in messages %}{{ m.content }} {% endfor %}", "no special token after an answer"),
        ("{{ raise_exception('no') }}", "cannot write a question and its answer"),
        ("{% for %}", "cannot write a question and its answer"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(bare: Any, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "t.jinja").write_text(text)

    with pytest.raises(InvalidRun, match=why):
        settle_template(bare, str(tmp_path / "t.jinja"))
    with pytest.raises(InvalidRun, match="cannot be read"):
        settle_template(bare, str(tmp_path / "none.jinja"))


def test_another_template_is_another_run(tmp_path: Path) -> None:
    def key(text: str | None, name: str = "t.jinja") -> str:
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        recipe = resolve({"base": "/b", "template": None if text is None else str(file)})
        return run_key("p", "d", identify(recipe, BaseIdentity("w", "t")), recipe)

    assert len({key(None), key("a"), key("b")}) == 3
    assert key("a", "here.jinja") == key("a", "there.jinja"), "its text counts, not its place"
