"""The tokenizer of the demo's checkpoints: characters, with what is said often as one token each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerFast

SPECIALS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "<start_of_audio>",
    "<end_of_audio>",
    "<audio_soft_token>",
)
NAMED = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
    "audio_token": "<audio_soft_token>",
}
NEWLINES = ("\n", "\n\n", "\n\n\n", "\n\n\n\n")
"""vLLM looks these up for Gemma 3. Not special, or decoding would drop the lines of an answer."""
ROLES = ("user", "model")

CHAT_TEMPLATE = """\
{{ bos_token }}
{%- for message in messages -%}
{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
{%- if message['content'] is string -%}
{{ message['content'] | trim }}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'audio' -%}{{ '<audio_soft_token>' }}
{%- elif item['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""


def clauses(prompt: str) -> list[str]:
    """A prompt cut behind its punctuation and the space after it. Each clause is one token, so that
    a question of 400 characters costs a model of 3 layers a dozen positions; any other wording is
    spelled out."""
    return re.findall(r"[^.:;,\n]+[.:;,]*\s*", prompt)


def make_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Character level with byte fallback and no merges.

    Args:
        words: texts that are one token each wherever they occur, the longest first.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    core = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=False,
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=False)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in SPECIALS])
    # As Gemma's own tokenizer does: whoever passes it a rendered chat takes the template's <bos> off.
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", pieces.index("<bos>"))]
    )
    known = dict.fromkeys([*NEWLINES, *ROLES, *words])
    core.add_tokens([AddedToken(word, special=False, normalized=False) for word in known])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=NAMED,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
