"""Marian's small translation models: a Transformer whose decoder recurs.

The encoder is that of 2017. In the decoder, self-attention gives way to an `SSRU`,
while the attention to the source stays: what is written so far costs the same at each
step, however long it is, and these models translate on a phone.

Sources: Junczys-Dowmunt et al. (2018), "Marian: Fast Neural Machine Translation in
C++"; Kim et al. (2019), "From Research to Production and Back: Ludicrously Fast Neural
Machine Translation"; Bogoychev et al. (2020), "Edinburgh's Submissions to the 2020
Machine Translation Efficiency Task", for the tiny model in 8 bits.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.layers import (
    EncoderLayer,
    KeyValueCache,
    MultiHeadAttention,
    PositionwiseFeedForward,
    SinusoidalPositionalEncoding,
)
from companion.layers.ssru import SSRU
from companion.models.hf import check_options, load_hf
from companion.models.marian_binary import read_marian

_EPS = 1e-6  # of Marian's layer norm


class RecurrentDecoderLayer(nn.Module):
    """Recur over what is written, look across at the source, then think; post-norm.

    Takes what `DecoderLayer` takes.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.ssru = SSRU(d_model)
        self.cross_attention = MultiHeadAttention(d_model, num_heads, dropout=dropout)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.norm1 = nn.LayerNorm(d_model, eps=_EPS)
        self.norm2 = nn.LayerNorm(d_model, eps=_EPS)
        self.norm3 = nn.LayerNorm(d_model, eps=_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        x = self.norm1(x + self.dropout(self.ssru(x, cache=cache)))
        across, _ = self.cross_attention(
            x, memory, mask=source_mask, need_weights=False, cache=cache
        )
        x = self.norm2(x + self.dropout(across))
        return self.norm3(x + self.dropout(self.feed_forward(x)))


class Marian(nn.Module):
    """A translation model in Marian's way, with one vocabulary for both languages.

    Source, target and output share one embedding. No token starts a target: its first
    input is the zero vector. Here the zero vector belongs to a token of its own, number
    ``vocab_size``, which serves as padding too; it is never predicted.

    Args:
        vocab_size: number of tokens of both languages.
        d_model: width of the residual streams.
        num_heads: attention heads in a layer.
        d_ff: inner width of the feed-forward networks.
        num_encoder_layers: layers that read.
        num_decoder_layers: layers that write.
        max_seq_len: the longest source or target.
        dropout: of the embeddings and in the layers.

    Attributes:
        start_id, pad_id: the number of the zero vector, ``vocab_size``.
        eos_id: the token that ends sources and targets, 0.
    """

    eos_id = 0

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 256,
        num_heads: int = 8,
        d_ff: int = 1536,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 2,
        max_seq_len: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.start_id = self.pad_id = vocab_size
        self.max_seq_len = max_seq_len
        self.embedding = nn.Embedding(
            vocab_size + 1, d_model, padding_idx=self.start_id
        )
        nn.init.normal_(self.embedding.weight[:-1], std=d_model**-0.5)
        self.positions = SinusoidalPositionalEncoding(
            d_model, max_seq_len, dropout, layout="halves", endpoint=True
        )
        sizes = (d_model, num_heads, d_ff, dropout)
        self.encoder = nn.ModuleList(
            EncoderLayer(*sizes, layer_norm_eps=_EPS) for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            RecurrentDecoderLayer(*sizes) for _ in range(num_decoder_layers)
        )
        self.output_bias = nn.Parameter(torch.zeros(vocab_size))

    def encode(
        self,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch source d_model"]:
        """What the decoder will read; sources end with ``eos_id``."""
        x = self._embed(source_ids)
        for layer in self.encoder:
            x = layer(x, source_mask)
        return x

    def decode(
        self,
        target_ids: Int[Tensor, "batch target"],
        memory: Float[Tensor, "batch source d_model"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
        *,
        cache: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each target token.

        Args:
            target_ids: the target so far, from ``start_id`` on; with a cache, only its
                new tokens.
            memory: what `encode` returned.
            source_mask: hides source tokens, as it did in `encode`.
            target_mask: must be None: a recurrence has no keys to hide. Padding at the
                end needs no mask.
            cache: states, keys and values of earlier calls.

        Raises:
            ValueError: there is a target mask.
        """
        if target_mask is not None:
            raise ValueError(
                "target_mask must be None: this decoder recurs over the target, so "
                "none of its tokens can be hidden from the later ones"
            )
        x = self._embed(target_ids, offset=0 if cache is None else cache.length)
        for layer in self.decoder:
            x = layer(x, memory, source_mask, cache=cache)
        return F.linear(x, self.embedding.weight[: self.start_id], self.output_bias)

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        source_mask: Bool[Tensor, "..."] | None = None,
        target_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token after each of ``target_ids``, all at once."""
        memory = self.encode(source_ids, source_mask)
        return self.decode(target_ids, memory, source_mask, target_mask)

    def _embed(self, token_ids: Tensor, offset: int = 0) -> Tensor:
        x = self.embedding(token_ids) * math.sqrt(self.embedding.embedding_dim)
        return self.positions(x, offset)

    @classmethod
    def from_marian(cls, path: str | Path) -> Marian:
        """A model of the Marian toolkit, in evaluation mode.

        The scales that Marian takes to round activations to 8 bits have no use here,
        where they stay floats. All other numbers of the file are loaded, or it fails.

        Args:
            path: a binary model file, or a folder with just one ``model.*.bin``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: not such a file or folder, an option that is not implemented,
                or weights that don't fit.
        """
        config, theirs = read_marian(_find(path))
        if missing := sorted(_SUPPORTED.keys() - config.keys()):
            raise ValueError(f"{path} lacks the options {', '.join(missing)}")
        check_options(config, _SUPPORTED, "Marian")
        if "Wemb" not in theirs:
            raise ValueError(f"{path} has no Wemb, the embedding")
        sizes = {ours: _number(config, option) for ours, option in _SIZES.items()}
        weights = {
            name: _ours(name, w)
            for name, w in theirs.items()
            if not name.endswith("_QuantMultA")
        }
        model = cls(theirs["Wemb"].shape[0], **sizes)
        load_hf(model, weights, _rules(len(model.encoder), len(model.decoder)))
        return model.eval()


def _find(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    files = sorted(path.glob("model.*.bin"))
    if len(files) != 1:
        raise ValueError(
            f"path must be a file, or a folder with just one model.*.bin, but "
            f"{str(path)!r} has {len(files)}"
        )
    return files[0]


def _number(config: dict[str, str], option: str) -> int:
    if not config.get(option, "").isdecimal():
        raise ValueError(
            f"the file must say how large {option} is, but it has "
            f"{config.get(option)!r}"
        )
    return int(config[option])


def _ours(name: str, weight: Tensor) -> Tensor:
    """A weight in our shape: a matrix maps (outputs, inputs), a vector has one axis."""
    if name == "Wemb":
        return F.pad(weight, (0, 0, 0, 1))  # the zero vector's row
    return weight[0] if weight.shape[0] == 1 else weight.T


def _rules(num_encoder_layers: int, num_decoder_layers: int) -> dict[str, str]:
    """Marian's names, whose layers are counted from 1, and ours."""
    rules = {"Wemb": "embedding.weight", "decoder_ff_logit_out_b": "output_bias"}

    def sub_layers(
        theirs: str, ours: str, attention: tuple[str, str], norm: int
    ) -> None:
        attends, module = attention
        for x in "qkvo":
            rules[f"{theirs}_{attends}_W{x}"] = f"{ours}.{module}.W_{x}.weight"
            rules[f"{theirs}_{attends}_b{x}"] = f"{ours}.{module}.W_{x}.bias"
        for i in (1, 2):
            rules[f"{theirs}_ffn_W{i}"] = f"{ours}.feed_forward.W_{i}.weight"
            rules[f"{theirs}_ffn_b{i}"] = f"{ours}.feed_forward.W_{i}.bias"
        norms = {f"{attends}_Wo": norm, "ffn_ffn": norm + 1}
        for name, number in norms.items():
            rules[f"{theirs}_{name}_ln_scale"] = f"{ours}.norm{number}.weight"
            rules[f"{theirs}_{name}_ln_bias"] = f"{ours}.norm{number}.bias"

    for i in range(num_encoder_layers):
        theirs, ours = f"encoder_l{i + 1}", f"encoder.{i}"
        sub_layers(theirs, ours, ("self", "self_attention"), norm=1)
    for i in range(num_decoder_layers):
        theirs, ours = f"decoder_l{i + 1}", f"decoder.{i}"
        sub_layers(theirs, ours, ("context", "cross_attention"), norm=2)
        rules[f"{theirs}_rnn_W"] = f"{ours}.ssru.W.weight"
        rules[f"{theirs}_rnn_Wf"] = f"{ours}.ssru.W_f.weight"
        rules[f"{theirs}_rnn_bf"] = f"{ours}.ssru.W_f.bias"
        rules[f"{theirs}_rnn_ffn_ln_scale"] = f"{ours}.norm1.weight"
        rules[f"{theirs}_rnn_ffn_ln_bias"] = f"{ours}.norm1.bias"
    return rules


_SUPPORTED = {
    "type": ("transformer",),
    "transformer-decoder-autoreg": ("rnn",),
    "dec-cell": ("ssru",),
    "tied-embeddings-all": ("true",),
    "transformer-ffn-activation": ("relu",),
    "transformer-ffn-depth": ("2",),
    "transformer-preprocess": ("",),
    "transformer-postprocess": ("dan",),  # dropout, add, norm
    "transformer-postprocess-emb": ("d", ""),
    "transformer-postprocess-top": ("",),
    "transformer-train-position-embeddings": ("false",),
    "transformer-no-projection": ("false",),
    "transformer-pool": ("false",),
    "output-omit-bias": ("false",),
}

# Our arguments and Marian's options.
_SIZES = {
    "d_model": "dim-emb",
    "num_heads": "transformer-heads",
    "d_ff": "transformer-dim-ffn",
    "num_encoder_layers": "enc-depth",
    "num_decoder_layers": "dec-depth",
}
