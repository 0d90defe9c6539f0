"""Reading GGUF, and the tokenizer and chat template that lie in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from companion import LLaMA, generate, to_interleaved
from companion.data.assets import fetch
from companion.data.smollm2 import ChatTokenizer
from companion.models.gguf import llama_from_gguf, read_gguf

gguf = pytest.importorskip("gguf")

BYTES = [chr(i) for i in range(33, 127)]


def write(path, model: LLaMA, *, kind=None, **changes) -> None:
    """``model`` as a GGUF file, with rows of W_q and W_k reordered as the converter does."""
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    attention = model.layers[0].self_attention
    writer.add_block_count(len(model.layers))
    writer.add_context_length(model.max_seq_len)
    writer.add_embedding_length(attention.d_model)
    writer.add_feed_forward_length(model.layers[0].feed_forward.W_1.out_features)
    writer.add_head_count(attention.num_heads)
    writer.add_head_count_kv(attention.num_kv_heads)
    writer.add_layer_norm_rms_eps(model.norm.eps)
    writer.add_rope_freq_base(attention.rotary.base)
    writer.add_rope_dimension_count(changes.pop("turning", attention.d_k))
    if "scaling" in changes:
        writer.add_rope_scaling_type(changes.pop("scaling"))
    names = {
        "token_embedding": "token_embd",
        "norm": "output_norm",
        "output_projection": "output",
        "norm1": "attn_norm",
        "norm2": "ffn_norm",
        "W_q": "attn_q",
        "W_k": "attn_k",
        "W_v": "attn_v",
        "W_o": "attn_output",
        "W_1": "ffn_gate",
        "V": "ffn_up",
        "W_2": "ffn_down",
    }
    tied = model.output_projection.weight is model.token_embedding.weight
    for name, weight in model.state_dict().items():
        *place, part, ending = name.split(".")
        if tied and part == "output_projection":
            continue
        if part in ("W_q", "W_k"):
            weight = to_interleaved(weight, attention.d_k)
        name = f"{names[part]}.{ending}"
        if place:
            name = f"blk.{place[1]}.{name}"
        data = weight.numpy()
        if kind is not None and data.ndim == 2:
            data = gguf.quants.quantize(data, kind)
            writer.add_tensor(name, data, raw_dtype=kind)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def small(**options) -> LLaMA:
    torch.manual_seed(0)
    sizes = {"num_kv_heads": 2, "rope_base": 500.0, "norm_eps": 1e-4, "max_seq_len": 64}
    return LLaMA(40, 64, 4, 96, 2, **(sizes | options)).eval()


IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_file_and_back(tmp_path, tied):
    model = small(tied_output=tied)
    write(tmp_path / "a.gguf", model)
    loaded = llama_from_gguf(tmp_path / "a.gguf")
    assert torch.equal(loaded(IDS), model(IDS))
    assert loaded.max_seq_len == 64
    assert (loaded.output_projection.weight is loaded.token_embedding.weight) == tied


@torch.no_grad()
def test_biases_are_read_and_turned(tmp_path):
    model = small(attention_bias=True)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape) * 0.1)
    write(tmp_path / "a.gguf", model)
    assert torch.equal(llama_from_gguf(tmp_path / "a.gguf")(IDS), model(IDS))


@torch.no_grad()
def test_eight_bits_are_unpacked(tmp_path):
    model = small()
    write(tmp_path / "a.gguf", model, kind=gguf.GGMLQuantizationType.Q8_0)
    file = read_gguf(tmp_path / "a.gguf")
    assert file.kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert file.kinds["output_norm.weight"] == "F32"
    off = (llama_from_gguf(file)(IDS) - model(IDS)).abs().max()
    assert 0 < off < 0.02


def test_without_turning_back_it_is_another_model(tmp_path):
    model = small()
    write(tmp_path / "a.gguf", model)
    weight = read_gguf(tmp_path / "a.gguf").weights["blk.0.attn_q.weight"]
    assert not torch.equal(weight, model.layers[0].self_attention.W_q.weight)
    assert torch.equal(
        weight.sort(0).values, model.layers[0].self_attention.W_q.weight.sort(0).values
    )


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="is not a file"):
        read_gguf(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("no weights here, but longer than a header")
    with pytest.raises(ValueError, match="not a readable GGUF"):
        read_gguf(tmp_path / "text.gguf")
    model = small()
    for changes, message in (
        ({"turning": 8}, "rope.dimension_count must be 16"),
        ({"architecture": "gemma"}, "general.architecture is 'gemma'"),
        ({"scaling": gguf.RopeScalingType.YARN}, "llama.rope.scaling.type is 'yarn'"),
    ):
        path = tmp_path / f"{len(message)}.gguf"
        write(path, model, **changes)
        with pytest.raises(ValueError, match=message):
            llama_from_gguf(path)


# The real file


@pytest.fixture(scope="module")
def file():
    return read_gguf(fetch("smollm2"))


@pytest.fixture(scope="module")
def tokenizer(file):
    return ChatTokenizer(file.metadata)


TEXTS = [
    "The capital of France is",
    "def f(x):\n    return x ** 2  # 1234567890\n\n\n",
    "Zürich, naïve café 東京 🙂👩‍👩‍👧 ​\t end ",
    " leading, trailing  ",
    "",
    "I'll, we've; it's 3.14159e-10!",
]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back_whole(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    if text.isascii():
        assert "".join(tokenizer.tokens(ids)) == text


def test_digits_stand_alone_and_control_tokens_are_one(tokenizer):
    assert tokenizer.tokens(tokenizer.encode("in 2024")) == ["in", " ", *"2024"]
    ids = tokenizer.encode("<|im_start|>user\nHi<|im_end|>")
    assert ids[0] == 1 and ids[-1] == tokenizer.eos_id == 2
    assert tokenizer.decode(ids) == "user\nHi"
    assert tokenizer.decode(ids, keep_control=True) == "<|im_start|>user\nHi<|im_end|>"


def test_a_chat_as_text(tokenizer):
    system = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
        "Hugging Face<|im_end|>\n"
    )
    user = {"role": "user", "content": "Hi"}
    assert tokenizer.chat_text([user]) == (
        system + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": "system", "content": "Be brief."}, user]
    assert tokenizer.chat_text(messages, answer=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )
    assert tokenizer.chat(messages) == tokenizer.encode(tokenizer.chat_text(messages))


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], ["Hi"]])
def test_a_chat_needs_messages(tokenizer, messages):
    with pytest.raises(ValueError, match="messages must"):
        tokenizer.chat_text(messages)


def test_a_template_gets_no_access(file):
    template = "{{ ''.__class__.__mro__ }}"
    metadata = dict(file.metadata) | {"tokenizer.chat_template": template}
    with pytest.raises(ValueError, match="the chat template fails"):
        ChatTokenizer(metadata).chat_text([{"role": "user", "content": "Hi"}])


def test_another_tokenizer_is_refused(file):
    metadata = dict(file.metadata) | {"tokenizer.ggml.pre": "llama-bpe"}
    with pytest.raises(ValueError, match="tokenizer.ggml.pre is 'llama-bpe'"):
        ChatTokenizer(metadata)


def test_blocks_of_four_bits_are_unpacked_as_their_formula_says(file):
    """weight = scale * number + minimum, 32 numbers of 4 bits a block."""
    reader = gguf.GGUFReader(fetch("smollm2"))
    tensor = next(t for t in reader.tensors if t.name == "blk.0.attn_q.weight")
    block = tensor.data.reshape(-1, 20)[7]
    scale, minimum = block[:4].copy().view(np.float16).astype(np.float32)
    numbers = np.concatenate([block[4:] & 15, block[4:] >> 4]).astype(np.float32)
    unpacked = file.weights["blk.0.attn_q.weight"].flatten()[7 * 32 : 8 * 32]
    np.testing.assert_array_equal(unpacked.numpy(), scale * numbers + minimum)


@torch.no_grad()
def test_it_knows_the_capital_of_france(file, tokenizer):
    model = llama_from_gguf(file)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    ids = tokenizer.encode("The capital of France is")
    written = generate(model, [ids], 2)
    assert tokenizer.decode(written[0]) == "The capital of France is Paris."
