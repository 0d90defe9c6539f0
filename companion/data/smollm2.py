"""The tokenizer of SmolLM2-135M-Instruct, a small LLaMA that was trained to chat.

The asset is one GGUF file, which holds weights, vocabulary and chat template:

    from companion.models.gguf import llama_from_gguf, read_gguf

    file = read_gguf(fetch("smollm2"))
    model, tokenizer = llama_from_gguf(file), ChatTokenizer(file.metadata)

Source: Allal et al. (2025), "SmolLM2: When Smol Goes Big. Data-Centric Training of a
Small Language Model".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor

Message = Mapping[str, str]  # {"role": "user", "content": "Hello"}

_SUPPORTED = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}
_CONTROL = 3  # the kind of token that steers a model and is no text


class ChatTokenizer:
    """The tokenizer of a GGUF file: byte-level BPE as in GPT-2, and a chat template.

    A text is cut into words and single digits, each word into bytes, and bytes are
    merged by the learned pairs. No byte is unknown, so every text comes back whole.

    Args:
        metadata: of the GGUF file.

    Attributes:
        eos_id: the token that ends a text, or an answer in a chat.
        chat_template: how the messages of a chat become one text, in Jinja's language.

    Raises:
        ValueError: a tokenizer of another kind.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        for option, needed in _SUPPORTED.items():
            if metadata[option] != needed:
                raise ValueError(
                    f"{option} is {metadata[option]!r}, but it must be {needed!r}"
                )
        vocabulary = metadata["tokenizer.ggml.tokens"]
        merges = metadata["tokenizer.ggml.merges"]
        tokenizer = Tokenizer(
            BPE(
                vocab={token: i for i, token in enumerate(vocabulary)},
                merges=[tuple(merge.split(" ")) for merge in merges],
            )
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        kinds = metadata["tokenizer.ggml.token_type"]
        control = [
            t for t, kind in zip(vocabulary, kinds, strict=True) if kind == _CONTROL
        ]
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in control]
        )
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.eos_id = metadata["tokenizer.ggml.eos_token_id"]
        self.chat_template = metadata["tokenizer.chat_template"]

    def encode(self, text: str) -> list[int]:
        """The token ids of ``text``, with nothing added.

        Control tokens such as ``<|im_end|>`` are recognized: whoever puts text of
        others into a chat should look for them first.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be a string, but it is {text!r}")
        return self._tokenizer.encode(text).ids

    def decode(
        self, token_ids: Sequence[int] | Tensor, *, keep_control: bool = False
    ) -> str:
        """The text of token ids. A character of which bytes are missing comes out as �."""
        ids = [int(token) for token in token_ids]
        return self._tokenizer.decode(ids, skip_special_tokens=not keep_control)

    def tokens(self, token_ids: Sequence[int] | Tensor) -> list[str]:
        """Each token as the text that it stands for."""
        return [self.decode([token], keep_control=True) for token in token_ids]

    def chat_text(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """A chat as the one text that the model was trained on.

        Args:
            messages: each with ``"role"`` (``"system"``, ``"user"`` or ``"assistant"``)
                and ``"content"``, in order.
            answer: whether to end with the beginning of the assistant's next message.

        Raises:
            ValueError: there is no message, or one lacks its role or content.
        """
        if not messages:
            raise ValueError("messages must hold at least one message, but it is empty")
        for message in messages:
            if not isinstance(message, Mapping) or not {"role", "content"} <= {
                *message
            }:
                raise ValueError(
                    'each of messages must be a dict with "role" and "content", but one '
                    f"is {message!r}"
                )
        # A template is a program that came with a file: it gets no access to anything.
        sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        try:
            template = sandbox.from_string(self.chat_template)
            return template.render(messages=messages, add_generation_prompt=answer)
        except TemplateError as error:
            raise ValueError(f"the chat template fails: {error}") from error

    def chat(self, messages: Sequence[Message], *, answer: bool = True) -> list[int]:
        """The token ids of `chat_text`."""
        return self.encode(self.chat_text(messages, answer=answer))
