"""The encoder-decoder that came before the Transformer, with and without attention.

Sources: Sutskever et al. (2014), "Sequence to Sequence Learning with Neural Networks",
section 2, and Cho et al. (2014), "Learning Phrase Representations using RNN
Encoder-Decoder", section 2.2, for one vector between encoder and decoder; Bahdanau et
al. (2015), "Neural Machine Translation by Jointly Learning to Align and Translate", for
attention; Luong et al. (2015), "Effective Approaches to Attention-based Neural Machine
Translation", section 3.1, for asking with the decoder's state after its step.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import CrossAttention


class RecurrentTranslator(nn.Module):
    """A GRU reads the source, a second GRU writes the target from the first one's last state.

    That state, ``d_model`` numbers, is all that the decoder knows of the source. With
    ``attention`` it also looks up the encoder's states, one for each source token:

        h_t = GRU(y_t, h_{t-1});  c_t = Attention(h_t, encoder states)
        logits_t = W tanh(W_c [c_t; h_t])                              (Luong, eq. 5)

    Args:
        source_vocab_size: number of source tokens.
        target_vocab_size: number of target tokens.
        d_model: width of embeddings and states.
        attention: whether the decoder attends to the encoder's states.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        d_model: int,
        *,
        attention: bool,
    ) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(source_vocab_size, d_model)
        self.target_embedding = nn.Embedding(target_vocab_size, d_model)
        self.encoder = nn.GRU(d_model, d_model, batch_first=True)
        self.decoder = nn.GRU(d_model, d_model, batch_first=True)
        self.attention = CrossAttention(d_model) if attention else None
        self.combine = nn.Linear(2 * d_model if attention else d_model, d_model)
        self.output = nn.Linear(d_model, target_vocab_size)

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> tuple[Float[Tensor, "batch source d_model"], Float[Tensor, "batch d_model"]]:
        """The encoder's state at each source token, and the state at the last one.

        Args:
            source_ids: source tokens; padding, if any, comes last.
            source_mask: True at real tokens, as `padding_mask` builds it.
        """
        states, _ = self.encoder(self.source_embedding(source_ids))  # (B, S, D)
        if source_mask is None:
            return states, states[:, -1]
        # The GRU runs on over the padding, so its last state is not the one to keep.
        last = source_mask[:, 0, 0].sum(dim=-1) - 1  # (B,)
        return states, states[torch.arange(len(states), device=states.device), last]

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> Float[Tensor, "batch target target_vocab"]:
        """Logits of the token after each of ``target_ids``, which start with a start token."""
        memory, state = self.encode(source_ids, source_mask)
        return self._decode(target_ids, memory, state[None], source_mask)[0]

    @torch.no_grad()
    def generate(
        self,
        source_ids: Int[Tensor, "batch source"],
        num_tokens: int,
        start_id: int,
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> Int[Tensor, "batch num_tokens"]:
        """The target token by token, each time the likeliest, after ``start_id``."""
        memory, state = self.encode(source_ids, source_mask)
        state = state[None]  # (1, B, D): one layer
        tokens = [torch.full_like(source_ids[:, :1], start_id)]
        for _ in range(num_tokens):
            logits, state = self._decode(tokens[-1], memory, state, source_mask)
            tokens.append(logits.argmax(dim=-1))  # (B, 1)
        return torch.cat(tokens[1:], dim=1)

    def _decode(
        self,
        target_ids: Tensor,
        memory: Tensor,
        state: Tensor,
        source_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        h, state = self.decoder(self.target_embedding(target_ids), state)  # (B, T, D)
        if self.attention is not None:
            context, _ = self.attention(h, memory, source_mask)  # (B, T, D)
            h = torch.cat([context, h], dim=-1)  # (B, T, 2D)
        return self.output(self.combine(h).tanh()), state


class RecurrentLanguageModel(nn.Module):
    """An LSTM that foretells each next token: what language models were before GPT.

    Source: Jozefowicz et al. (2016), "Exploring the Limits of Language Modeling", section
    3.1, without its convolutions and projections; Press and Wolf (2017), "Using the Output
    Embedding to Improve Language Models", for the tied output.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of embeddings and states.
        num_layers: LSTMs on top of each other.
        dropout: in training, between the layers.
    """

    def __init__(
        self, vocab_size: int, d_model: int, num_layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.lstm = nn.LSTM(
            d_model, d_model, num_layers, batch_first=True, dropout=dropout
        )
        self.output_projection = nn.Linear(d_model, vocab_size)
        nn.init.normal_(self.token_embedding.weight, std=d_model**-0.5)
        self.output_projection.weight = self.token_embedding.weight

    def forward(
        self, token_ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each of ``token_ids``.

        Padding, if any, comes last, where nothing that counts reads it.
        """
        states, _ = self.lstm(self.token_embedding(token_ids))
        return self.output_projection(states)
