#!/usr/bin/env python3
"""Writes the small GGUF files of tests/fixtures/gguf, with what gguf-py says that they mean.

    pip install gguf numpy safetensors tokenizers
    scripts/llama-cpp.sh fetch
    python scripts/make_gguf.py

blocks.gguf    one tensor of every block format, of random bytes, and the same decoded by gguf-py: `q4_k` and `q4_k.f32`
llama.gguf     a Llama of one layer in Q8_0, F16 and F32, with a byte-level tokenizer; model.llama.safetensors holds the same
               tensors as Hugging Face has them, rows of q and k not permuted
gemma3.gguf    a Gemma 3 of three layers, without the keys that most files leave out; model.gemma3.safetensors holds its norms and
               projections of k as Hugging Face has them
smollm3.gguf   a SmolLM3 of four layers; model.smollm3.safetensors holds its projection of k as Hugging Face has it
sentence.gguf  the metadata of a SentencePiece tokenizer with byte fallback and no space prefix; no tensors
split-*.gguf   llama.gguf in two files
bytes.gguf, pieces.gguf   small models with a byte-level and a SentencePiece vocabulary that merge across words, digits and spaces
token_ids.json            what llama.cpp makes of TEXTS with them, for each pre-tokenizer and with and without space prefix
"""
import json
import os
import subprocess
import tempfile
import time
import urllib.request
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


def add_sentence_pieces(writer, pieces, space_prefix=False):
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in pieces])
    writer.add_token_types([kind for _, kind, _ in pieces])
    writer.add_token_scores([score for _, _, score in pieces])
    writer.add_add_space_prefix(space_prefix)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


# Digits, white space, letters with marks, CJK, emoji, contractions, punctuation, control tokens.
TEXTS = [
    "So the overall score is 3", "So the overall score is 10.", "1 12 123 1234 12345 3.14159 1,000,000 \u0661\u0662\u0663 \u00bd\u00b2",
    "  two  spaces   three    four\ttab\t\ttabs ", "lines\nand\n\nmore\r\nwindows\n  indented\n\n\n", " ", "\n", "\t\n \n  x",
    "don't I'll WE'RE it'S they've I'd i'M 'tis rock'n'roll", "na\u00efve caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \u00dcber stra\u00dfe \u0130stanbul",
    "\u6211\u4eec\u8bc4\u5206\u4e3a5\u5206\u3002 \u8fd9\u662f\u4e00\u4e2a\u6d4b\u8bd5\uff01", "\u3053\u308c\u306f\u30c6\u30b9\u30c8\u3067\u3059\u3001\u70b9\u65703\u70b9", "\ud55c\uad6d\uc5b4 \uc810\uc218 4\uc810",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u041e\u0446\u0435\u043d\u043a\u0430: 5", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0664", "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
    "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea\u2764\ufe0f\U0001f44d\U0001f3fd", "a\u00a0b\u2003c\u200bd\u3000e",
    "!!! ?! ... --- => <= >= == && || ::: #[derive] $x^2 + y~z `code`", "(a) [b] {c} \"d\" \u201ce\u201d \u2018f\u2019 \u2014 \u2013 \u2026 \u20ac5 \u00a33 \u00a9\u2122",
    "fn main() {\n    println!(\"{}\", 42);\n}\n", "https://example.org/a/b?c=1&d=2#e", "CamelCaseWord SCREAMING_SNAKE_case kebab-case",
    "a<|end|>b", "<|end|> \n<|end|><|end|>x", "<|user|> hi", "<s>", "the cat  in the hat 22 ", "x" * 40, "ab" * 12 + "  " * 9 + "!" * 9,
]


def model_of_tokenizer(path, describe, vocab):
    """A Llama of one layer, which llama.cpp loads."""
    random, hidden = np.random.default_rng(1), 32
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    describe(writer)
    matrices = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32),
                "ffn_gate": (32, 32), "ffn_up": (32, 32), "ffn_down": (32, 32)}
    shapes = {"token_embd": (vocab, hidden)} | {f"blk.0.{name}": shape for name, shape in matrices.items()}
    for name, shape in shapes.items():
        raw = quantize(random.normal(0, 0.1, shape).astype(np.float32), T.Q4_0)
        writer.add_tensor(name + ".weight", raw, raw_dtype=T.Q4_0)
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]:
        writer.add_tensor(name + ".weight", np.ones(hidden, np.float32))
    finish(writer)


def byte_level(path, pre):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    # Nothing is cut before merges are learned, so that merges cross every border that a pre-tokenizer draws.
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    control = ["<s>", "</s>", "<|end|>"]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=control, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([t.replace("<|end|>", " ").replace("<|user|>", " ").replace("<s>", " ") for t in TEXTS * 3], trainer)
    learned = json.loads(tokenizer.to_str())
    ids = learned["model"]["vocab"]
    tokens = sorted(ids, key=ids.get) + ["<|user|>"]

    def describe(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3] * len(control) + [1] * (len(tokens) - len(control) - 1) + [4])
        writer.add_token_merges([" ".join(merge) for merge in learned["model"]["merges"]])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)

    model_of_tokenizer(path, describe, len(tokens))


def sentence_level(path, space_prefix):
    space = "\u2581"
    pieces = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0), ("<|end|>", 3, 0.0)]
    pieces += [(f"<0x{b:02X}>", 6, 0.0) for b in range(256)]
    letters = [space] + sorted({c for text in TEXTS for c in text if ord(c) < 0x500 and c not in " \n\t\r"})
    words = ["th", "the", space + "the", space + "t", "he", space + space, space * 4, "sc", "or", "score", "ore", space + "s", space + "score",
             "12", "123", "1" + space, "in", space + "in", "ca", "at", "cat", space + "c", space + "cat", "!!", "...", "..", "er", "ov", "over",
             space + "over", "al", "all", "overall", space + "is", "is", "ab", "abab", "xx", "xxxx", "xxxxxxxx"]
    pieces += [(word, 1, -float(rank)) for rank, word in enumerate(words)]
    pieces += [(letter, 1, -1000.0 - rank) for rank, letter in enumerate(letters)]
    pieces += [("<|user|>", 4, 0.0)]

    model_of_tokenizer(path, lambda writer: add_sentence_pieces(writer, pieces, space_prefix), len(pieces))


def ask_llama_cpp(path):
    """The ids of TEXTS, without BOS."""
    port = "18081"
    server = subprocess.Popen(
        [str(Path(__file__).parent / "llama-cpp.sh"), "run", "llama-server", "-m", str(path), "--port", port, "-c", "256", "-t", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def post(text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/tokenize", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["tokens"]

    try:
        for _ in range(100):
            if server.poll() is not None:
                raise SystemExit(f"llama.cpp does not load {path}")
            try:
                post("x")
                break
            except OSError:
                time.sleep(0.1)
        return [post(text) for text in TEXTS]
    finally:
        server.terminate()
        server.wait()


def token_ids():
    ids = {}
    byte_level(OUT / "bytes.gguf", "default")
    sentence_level(OUT / "pieces.gguf", True)
    with tempfile.TemporaryDirectory() as folder:
        for pre in ["default", "gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "smaug-bpe"]:
            byte_level(Path(folder) / "model.gguf", pre)
            ids[pre] = ask_llama_cpp(Path(folder) / "model.gguf")
        for space_prefix in [True, False]:
            sentence_level(Path(folder) / "model.gguf", space_prefix)
            ids["spaced" if space_prefix else "unspaced"] = ask_llama_cpp(Path(folder) / "model.gguf")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found, separators=(',', ':'))}" for name, found in ids.items())
    texts = json.dumps(TEXTS, indent=1)
    (OUT / "token_ids.json").write_text(f'{{"texts": {texts},\n{lines}}}\n')


os.makedirs(OUT, exist_ok=True)
random = np.random.default_rng(20261129)
blocks(random)
llama(random)
sentence()
gemma3(random)
smollm3(random)
