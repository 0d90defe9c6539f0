"""A language model: a stack of causal blocks, each position of which foretells the next token.

Sources: Radford et al. (2018), section 3.1 and 4.1; Radford et al. (2019), section 2.3.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import KeyValueCache, LearnedPositionalEmbedding
from companion.layers.block import TransformerBlock


class DecoderOnlyTransformer(nn.Module):
    """Token and position embeddings, causal blocks, a norm, and a logit for each token.

    Args:
        vocab_size: number of distinct tokens.
        d_model: width of the residual stream.
        num_heads: attention heads in a block.
        d_ff: inner width of the feed-forward networks.
        num_layers: number of blocks.
        max_seq_len: the longest sequence, for which there are position embeddings.
        dropout: in training, of the embeddings and inside each block.
        embedding_dropout, attention_dropout, hidden_dropout: of the embeddings, of the
            attention weights and of the feed-forward networks' hidden units, where they
            are not to be ``dropout``.
        num_kv_heads: key-value heads in a block, as in `MultiHeadAttention`.
        activation: of the feed-forward networks.
        norm_first: pre-norm blocks and a last norm (GPT-2), or post-norm ones (GPT).
        layer_norm_eps: what layer norm adds to the variance.
        tied_output: whether the output projection is the token embedding once more.

    Raises:
        ValueError: sizes that `MultiHeadAttention` refuses.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        max_seq_len: int = 1024,
        dropout: float = 0.1,
        *,
        embedding_dropout: float | None = None,
        attention_dropout: float | None = None,
        hidden_dropout: float | None = None,
        num_kv_heads: int | None = None,
        activation: str = "gelu",
        norm_first: bool = True,
        layer_norm_eps: float = 1e-5,
        tied_output: bool = True,
    ) -> None:
        super().__init__()
        self.max_seq_len = max_seq_len
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.positions = LearnedPositionalEmbedding(
            d_model,
            max_seq_len,
            dropout if embedding_dropout is None else embedding_dropout,
        )
        self.layers = nn.ModuleList(
            TransformerBlock(
                d_model,
                num_heads,
                d_ff,
                dropout,
                num_kv_heads=num_kv_heads,
                activation=activation,
                norm_first=norm_first,
                layer_norm_eps=layer_norm_eps,
                attention_dropout=attention_dropout,
                hidden_dropout=hidden_dropout,
            )
            for _ in range(num_layers)
        )
        last_norm = nn.LayerNorm(d_model, eps=layer_norm_eps)
        self.norm = last_norm if norm_first else nn.Identity()
        self.output_projection = nn.Linear(d_model, vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)  # Radford et al. (2018), 4.1
        if tied_output:
            self.output_projection.weight = self.token_embedding.weight

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> list[Float[Tensor, "batch length d_model"]]:
        """The embeddings, then what each block makes of them: ``num_layers + 1`` tensors.

        The last has gone through the last norm: it is what the output projection reads.
        Takes what the model takes.
        """
        x = self.token_embedding(token_ids)
        x = self.positions(x, offset=0 if cache is None else cache.length)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], mask, cache=cache))
        states[-1] = self.norm(states[-1])
        return states

    def forward(
        self,
        token_ids: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
        last: int | None = None,
    ) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each of ``token_ids``.

        Args:
            token_ids: the text so far; with a cache, only its new tokens.
            mask: hides further tokens, such as padding; the future is always hidden.
            cache: keys and values of earlier calls.
            last: give only the logits after this many of the last tokens. After a long
                prompt, the others are most of the work of a small model, and to write
                on, one is enough.

        Raises:
            ValueError: the text is longer than ``max_seq_len``.
        """
        x = self.hidden_states(token_ids, mask, cache=cache)[-1]
        return self.logits(x if last is None else x[:, -last:])

    def logits(
        self, x: Float[Tensor, "batch length d_model"]
    ) -> Float[Tensor, "batch length vocab"]:
        """A score for each token, from the last hidden states."""
        return self.output_projection(x)

    def loss(
        self,
        token_ids: Int[Tensor, "batch length"],
        labels: Int[Tensor, "batch length"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of each token given those before it, in nats a token.

        The logits at position t are for the token at t + 1: the shift is done here, as
        in Hugging Face's models, so ``labels`` stand where the tokens stand.

        Args:
            token_ids: the texts.
            labels: ``token_ids`` with -100 at each token that is not to count, such as
                padding or a prompt; by default all count. The first never does, since
                nothing foretells it.
            mask: hides tokens, as in the call of the model.

        Raises:
            ValueError: ``labels`` has not the shape of ``token_ids``.
        """
        labels = token_ids if labels is None else labels
        if labels.shape != token_ids.shape:
            raise ValueError(
                f"labels must have the shape of token_ids, {tuple(token_ids.shape)}, "
                f"but it has shape {tuple(labels.shape)}"
            )
        x = self.hidden_states(token_ids, mask)[-1]
        # Cut before the projection: of logits, (B, L, V), a cut would be a large copy.
        logits = self.logits(x[:, :-1])  # (B, L - 1, V)
        return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
