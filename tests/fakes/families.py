"""Families of models as their chat templates see them: the template's real text, or one of the same shape, over a small tokenizer
with the family's special tokens, made the way the family's is: bytes, or spaces as `▁`.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fakes.tiny_model import TEMPLATE, tiny_tokenizer

# Mistral's, of the generation with [TOOL_CALLS]: no system message of its own, ids of nine letters.
MISTRAL = (
    "{{- bos_token }}"
    "{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'user' %}"
    "{%- if tools and message == users[-1] %}{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{- '[INST] ' + message.content + '[/INST]' }}"
    "{%- elif message.role == 'assistant' and message.tool_calls %}"
    "{{- '[TOOL_CALLS] [' }}"
    "{%- for call in message.tool_calls %}"
    "{%- if call.id is undefined or call.id | length != 9 %}"
    "{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    "{%- endif %}"
    "{{- {'name': call.function.name, 'arguments': call.function.arguments, 'id': call.id} | tojson }}"
    "{{- ', ' if not loop.last else '' }}"
    "{%- endfor %}"
    "{{- ']' + eos_token }}"
    "{%- elif message.role == 'assistant' %}{{- ' ' + message.content + eos_token }}"
    "{%- elif message.role == 'tool' %}"
    "{%- if message.tool_call_id is undefined or message.tool_call_id | length != 9 %}"
    "{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}"
    "{%- endif %}"
    "{{- '[TOOL_RESULTS] ' + ({'content': message.content, 'call_id': message.tool_call_id} | tojson) + '[/TOOL_RESULTS]' }}"
    "{%- else %}{{- raise_exception('Only user, assistant and tool roles are supported') }}{% endif %}"
    "{%- endfor %}"
)
# Llama 2's shape: a system text inside the first question, answers trimmed, a space on both sides.
LLAMA2 = (
    "{%- if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}"
    "{%- else %}{% set rest = messages %}{% set system = false %}{% endif %}"
    "{%- for message in rest %}"
    "{%- if message.role == 'user' %}"
    "{%- set said = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message.content if loop.first and system else message.content %}"
    "{{- bos_token + '[INST] ' + said | trim + ' [/INST]' }}"
    "{%- elif message.role == 'assistant' %}{{- ' ' + message.content | trim + ' ' + eos_token }}"
    "{%- endif %}"
    "{%- endfor %}"
)
# SmolLM2's: ChatML with a system text of its own where none is given; calls are not written.
SMOLLM2 = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WRITTEN = {"chatml": TEMPLATE, "llama2": LLAMA2, "mistral": MISTRAL, "smollm2": SMOLLM2}
_SPACES = {
    "llama2": "first",
    "mistral": "first",
    "gemma": "never",
    "gemma3": "never",
    "phi3": "first",
    "phi3_5": "first",
}
_ARCHITECTURES = {  # the others are Llama's
    "gemma": "gemma",
    "gemma3": "gemma3_text",
    "mistral": "mistral",
    "phi3": "phi3",
    "phi3_5": "phi3",
    "qwen2_5": "qwen2",
    "qwen3": "qwen3",
}
_SPECIAL = re.compile(r"<\|[a-z_]+\|>|<(?:start|end)_of_turn>|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\]")
_REAL = ("gemma", "gemma3", "llama3", "llama3_1", "llama3_2", "phi3", "phi3_5", "qwen2_5", "qwen3")
FAMILIES = (*_WRITTEN, *_REAL)


def template_text(family: str) -> str:
    """The family's template: real ones lie in TRL's package."""
    if family in _WRITTEN:
        return _WRITTEN[family]
    spec = find_spec("trl")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{family}.jinja").read_text(encoding="utf-8")


def family_tokenizer(family: str, texts: Sequence[str]) -> Any:
    """A small tokenizer with the family's special tokens, which adds a beginning by itself as many do (a known trap)."""
    from tokenizers import AddedToken

    template = template_text(family)
    tokenizer = _spaced_tokenizer(texts, _SPACES[family]) if family in _SPACES else tiny_tokenizer(texts)
    special = sorted(set(_SPECIAL.findall(template)))
    takes_space = family.startswith("phi3")  # its special tokens take the white space that follows them
    tokens = [AddedToken(token, special=True, normalized=False, rstrip=takes_space) for token in special]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    if "bos_token" in template:
        tokenizer.add_special_tokens({"bos_token": "<bos>"})
        _add_beginning(tokenizer)
    if "eos_token" in template:
        tokenizer.add_special_tokens({"eos_token": "</s>", "pad_token": "</s>"})
    tokenizer.chat_template = template
    return tokenizer


def family_model(family: str, tokenizer: Any) -> Any:
    """The family's architecture with small random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        _ARCHITECTURES.get(family, "llama"),
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def _spaced_tokenizer(texts: Sequence[str], prepend: str) -> Any:
    """Spaces are `▁`, put before the text's first word, too; bytes stand in for letters it does not know."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)
    pieces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(pieces + ([decoders.Strip(" ", 1, 0)] if prepend == "first" else []))
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=640, special_tokens=special, show_progress=False, max_token_length=12)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def _add_beginning(tokenizer: Any) -> None:
    from tokenizers import processors

    beginning = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{beginning[0]} $A", special_tokens=[beginning]
    )
