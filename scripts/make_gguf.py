#!/usr/bin/env python3
"""Writes the small GGUF files of tests/fixtures/gguf, with what gguf-py says that they mean.

    pip install gguf numpy safetensors
    python scripts/make_gguf.py

blocks.gguf    one tensor of every block format, of random bytes, and the same decoded by gguf-py: `q4_k` and `q4_k.f32`
llama.gguf     a Llama of one layer in Q8_0, F16 and F32, with a byte-level tokenizer; model.llama.safetensors holds the same
               tensors as Hugging Face has them, rows of q and k not permuted
gemma3.gguf    a Gemma 3 of three layers, without the keys that most files leave out; model.gemma3.safetensors holds its norms and
               projections of k as Hugging Face has them
smollm3.gguf   a SmolLM3 of four layers; model.smollm3.safetensors holds its projection of k as Hugging Face has it
sentence.gguf  the metadata of a SentencePiece tokenizer with byte fallback and no space prefix; no tensors
split-*.gguf   llama.gguf in two files
"""
import os
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, RopeScalingType, dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

OUT = Path(__file__).parent.parent / "tests/fixtures/gguf"
FORMATS = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q4_K, T.Q5_K, T.Q6_K]
# Where the f16 numbers of a block lie: random bytes there would be NaN now and then.
SCALES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks(random):
    writer = GGUFWriter(OUT / "blocks.gguf", "llama")
    for format in FORMATS:
        values, size = GGML_QUANT_SIZES[format]
        if format in SCALES:
            raw = random.integers(0, 256, (2, 512 // values, size), dtype=np.uint8)
            for at in SCALES[format]:
                scale = random.normal(0, 0.1, raw.shape[:2]).astype(np.float16)
                raw[..., at : at + 2] = scale[..., None].view(np.uint8)
            raw = raw.reshape(2, -1)
        else:
            raw = quantize(random.normal(0, 1, (2, 512)).astype(np.float32), format)
            raw = np.ascontiguousarray(raw).view(np.uint8).reshape(2, -1)
        name = format.name.lower()
        writer.add_tensor(name, raw, raw_dtype=format)
        writer.add_tensor(name + ".f32", dequantize(raw, format).astype(np.float32))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def bytes_to_unicode():
    """GPT-2's printable character for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + n) for n, b in enumerate(rest)}


def permute(w, heads):
    """As llama.cpp's converter of Llama: the two values of a rotated pair become neighbours."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama(random):
    hidden, inner, heads, kv_heads, width = 32, 64, 2, 1, 16
    letters = bytes_to_unicode()
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d"]
    tokens = ["<s>", "</s>"] + [letters[b] for b in range(256)] + [m.replace(" ", "") for m in merges]
    vocab = len(tokens)

    def normal(*shape):
        return random.normal(0, 0.1, shape).astype(np.float32)

    layer = "model.layers.0."
    tensors = {
        "model.embed_tokens.weight": ("token_embd.weight", normal(vocab, hidden), T.Q8_0),
        layer + "input_layernorm.weight": ("blk.0.attn_norm.weight", 1 + normal(hidden), T.F32),
        layer + "self_attn.q_proj.weight": ("blk.0.attn_q.weight", normal(heads * width, hidden), T.Q8_0),
        layer + "self_attn.k_proj.weight": ("blk.0.attn_k.weight", normal(kv_heads * width, hidden), T.F16),
        layer + "self_attn.v_proj.weight": ("blk.0.attn_v.weight", normal(kv_heads * width, hidden), T.F32),
        layer + "self_attn.o_proj.weight": ("blk.0.attn_output.weight", normal(hidden, heads * width), T.Q4_0),
        layer + "post_attention_layernorm.weight": ("blk.0.ffn_norm.weight", 1 + normal(hidden), T.F32),
        layer + "mlp.gate_proj.weight": ("blk.0.ffn_gate.weight", normal(inner, hidden), T.Q4_1),
        layer + "mlp.up_proj.weight": ("blk.0.ffn_up.weight", normal(inner, hidden), T.Q5_0),
        layer + "mlp.down_proj.weight": ("blk.0.ffn_down.weight", normal(hidden, inner), T.Q5_1),
        "model.norm.weight": ("output_norm.weight", 1 + normal(hidden), T.F32),
    }
    written, meant = [], {}
    for name, (own, values, format) in tensors.items():
        raw = quantize(values, format)
        meant[name] = dequantize(raw, format).astype(np.float32).reshape(values.shape)
        if "q_proj" in name or "k_proj" in name:
            raw = permute(raw, heads if "q_proj" in name else kv_heads)
        written.append((own, raw, format))
    save_file(meant, OUT / "model.llama.safetensors")

    def describe(writer):
        writer.add_context_length(1024)
        writer.add_embedding_length(hidden)
        writer.add_block_count(1)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(heads)
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_rope_dimension_count(width)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3] + [1] * (vocab - 2))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        writer.add_chat_template("{{ bos_token }}{{ messages[0].content }}")

    writer = GGUFWriter(OUT / "llama.gguf", "llama")
    describe(writer)
    for own, raw, format in written:
        writer.add_tensor(own, raw, raw_dtype=format)
    finish(writer)
    half = len(written) // 2
    for number, part in enumerate([written[:half], written[half:]]):
        writer = GGUFWriter(OUT / f"split-{number + 1:05}-of-00002.gguf", "llama")
        if number == 0:
            describe(writer)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(written))
        for own, raw, format in part:
            writer.add_tensor(own, raw, raw_dtype=format)
        finish(writer)


def normal(random, *shape):
    return random.normal(0, 0.1, shape).astype(np.float32)


def other_family(random, name, architecture, layers, describe, norms, permuted):
    """A model in F16 whose norms are stored as `norms` says, with the tokenizer of sentence.gguf."""
    hidden, inner, heads, kv_heads, width = 12, 10, 3, 1, 4
    pieces = sentence_pieces()
    written, meant = [("token_embd.weight", normal(random, len(pieces), hidden))], {}
    written.append(("output_norm.weight", 1 + normal(random, hidden)))
    meant["model.norm.weight"] = written[-1][1] - norms["shift"]
    for layer in range(layers):
        for hf, (own, size) in norms["of layer"](hidden, width).items():
            written.append((f"blk.{layer}.{own}.weight", 1 + normal(random, size)))
            meant[f"model.layers.{layer}.{hf}.weight"] = written[-1][1] - norms["shift"]
        shapes = {
            "attn_q": (heads * width, hidden), "attn_k": (kv_heads * width, hidden), "attn_v": (kv_heads * width, hidden),
            "attn_output": (hidden, heads * width), "ffn_gate": (inner, hidden), "ffn_up": (inner, hidden), "ffn_down": (hidden, inner),
        }
        for own, shape in shapes.items():
            values = normal(random, *shape).astype(np.float16)
            if own == "attn_k":
                meant[f"model.layers.{layer}.self_attn.k_proj.weight"] = values.astype(np.float32)
                values = permute(values, kv_heads) if permuted else values
            written.append((f"blk.{layer}.{own}.weight", permute(values, heads) if permuted and own == "attn_q" else values))
    save_file({key: np.ascontiguousarray(value, dtype=np.float32) for key, value in meant.items()}, OUT / f"model.{name}.safetensors")
    writer = GGUFWriter(OUT / f"{name}.gguf", architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(1e-6)
    describe(writer)
    add_sentence_pieces(writer, pieces)
    for own, values in written:
        writer.add_tensor(own, values)
    finish(writer)


def gemma3(random):
    def describe(writer):
        writer.add_rope_freq_base(5000.0)
        writer.add_sliding_window(3)
        writer.add_sliding_window_pattern(2)
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(8.0)

    def of_layer(hidden, width):
        return {
            "input_layernorm": ("attn_norm", hidden), "post_attention_layernorm": ("post_attention_norm", hidden),
            "pre_feedforward_layernorm": ("ffn_norm", hidden), "post_feedforward_layernorm": ("post_ffw_norm", hidden),
            "self_attn.q_norm": ("attn_q_norm", width), "self_attn.k_norm": ("attn_k_norm", width),
        }

    other_family(random, "gemma3", "gemma3", 3, describe, {"shift": 1, "of layer": of_layer}, permuted=False)


def smollm3(random):
    def of_layer(hidden, width):
        return {"input_layernorm": ("attn_norm", hidden), "post_attention_layernorm": ("ffn_norm", hidden)}

    def describe(writer):
        writer.add_rope_freq_base(5e6)

    other_family(random, "smollm3", "smollm3", 4, describe, {"shift": 0, "of layer": of_layer}, permuted=True)


def sentence_pieces():
    space = "\u2581"
    pieces = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)]
    pieces += [(f"<0x{b:02X}>", 6, 0.0) for b in range(256)]
    words = [space + "t", "he", space + "the", "in", space + "c", space + "cat", "at", space + space, "2" + space]
    pieces += [(word, 1, -float(rank)) for rank, word in enumerate(words)]
    pieces += [(letter, 1, -1000.0 - rank) for rank, letter in enumerate(space + "etaonihsc,.0123456789")]
    return pieces + [("<start_of_turn>", 4, 0.0)]


def sentence():
    writer = GGUFWriter(OUT / "sentence.gguf", "llama")
    add_sentence_pieces(writer, sentence_pieces())
    finish(writer)


def add_sentence_pieces(writer, pieces):
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in pieces])
    writer.add_token_types([kind for _, kind, _ in pieces])
    writer.add_token_scores([score for _, _, score in pieces])
    writer.add_add_space_prefix(False)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


os.makedirs(OUT, exist_ok=True)
random = np.random.default_rng(20261129)
blocks(random)
llama(random)
sentence()
gemma3(random)
smollm3(random)
