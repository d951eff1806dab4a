#!/usr/bin/env python3
"""Writes the seeds of fuzz/corpus that are made and not found: small inputs of every kind, whole and broken.

Run it from anywhere; it needs Python's standard library alone. Findings are added to the corpus by hand, under names of their own.
"""

import gzip
import json
import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
BETWEEN = b"\n---\n"


def raw(value):
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()


def files(*values):
    """Several files as one input."""
    return BETWEEN.join(raw(value) for value in values)


def seed(target, name, *values):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(files(*values))


def tensors(entries, metadata=None):
    """A safetensors file of (name, dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, content in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return headed(header, data)


def headed(header, data=b"", length=None):
    text = raw(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def floats(count, value=0.5):
    return struct.pack(f"<{count}f", *[value + i / 64 for i in range(count)])


def zstd(content, checksum=b""):
    """A frame of one raw block."""
    descriptor = 0x24 if checksum else 0x20
    block = len(content) << 3 | 1
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor, len(content)]) + struct.pack("<I", block)[:3] + content + checksum


# The model of the targets: a Llama with a tied head.
CONFIG = {
    "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2, "tie_word_embeddings": True,
    "max_position_embeddings": 16, "torch_dtype": "float32",
}
LAYER = "model.layers.0."
SHAPES = [
    ("model.embed_tokens.weight", [8, 4]),
    (LAYER + "input_layernorm.weight", [4]),
    (LAYER + "self_attn.q_proj.weight", [4, 4]),
    (LAYER + "self_attn.k_proj.weight", [2, 4]),
    (LAYER + "self_attn.v_proj.weight", [2, 4]),
    (LAYER + "self_attn.o_proj.weight", [4, 4]),
    (LAYER + "post_attention_layernorm.weight", [4]),
    (LAYER + "mlp.gate_proj.weight", [4, 4]),
    (LAYER + "mlp.up_proj.weight", [4, 4]),
    (LAYER + "mlp.down_proj.weight", [4, 4]),
    ("model.norm.weight", [4]),
]


def size(shape):
    count = 1
    for side in shape:
        count *= side
    return count


MODEL = tensors([(name, "F32", shape, floats(size(shape))) for name, shape in SHAPES])
PARAMETERS = sum(size(shape) for _, shape in SHAPES)

WORDS = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": 0, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
    "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<s>": 0, "So": 1, "the": 2, "overall": 3, "score": 4, "is": 5, "4.": 6, "<unk>": 7}, "unk_token": "<unk>"},
}
BPE = {
    "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
    "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5, "\u0120": 6, "\u0120a": 7, "1": 8, "2": 9, "3": 10, "4": 11, "5": 12},
    "merges": [["a", "b"], ["ab", "c"], ["\u0120", "a"]],
}


def with_(base, **changes):
    return {**base, **changes}


def tokenizers():
    def model(name, value, *rest, **changes):
        seed("tokenizer", name, with_(WORDS, model=value, **changes), *rest)

    text = "abc ab a<s> abc 4"
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    seed("tokenizer", "words", WORDS, "So the overall score is 4.")
    seed("tokenizer", "words-config", WORDS, "So", {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ messages }}"})
    seed("tokenizer", "templates-by-name", WORDS, "So", {"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}]})
    seed("tokenizer", "templates-without-default", WORDS, "So", {"chat_template": [{"name": "rag"}, 3]})
    model("bpe", BPE, text, pre_tokenizer=byte_level, decoder=byte_level)
    model("bpe-dropout", with_(BPE, dropout=0.1), text * 8, pre_tokenizer=byte_level, decoder=byte_level)
    model("bpe-dropout-1", with_(BPE, dropout=1.0), text)
    model("bpe-dropout-nan", with_(BPE, dropout=-3.5), text)
    model("bpe-pairs-as-text", with_(BPE, merges=["a b", "ab c"]), text)
    model("bpe-merge-without-token", with_(BPE, merges=[["a", "c"]]), text)
    model("bpe-merge-longer-than-tokens", with_(BPE, continuing_subword_prefix="########", merges=[["a", "b"]]), text)
    model("bpe-merge-cuts-a-character", with_(BPE, continuing_subword_prefix="#", vocab={"a": 0, "\u00e9": 1, "a\u00e9": 2}, merges=[["a", "\u00e9"]]), "a\u00e9")
    model("bpe-merge-too-long", with_(BPE, merges=[["a" * 500, "b"]]), text)
    model("bpe-prefix", with_(BPE, continuing_subword_prefix="##", vocab={"a": 0, "##b": 1, "ab": 2}, merges=[["a", "##b"]]), text)
    model("bpe-suffix", with_(BPE, end_of_word_suffix="</w>", vocab={"a": 0, "b</w>": 1, "ab</w>": 2}, merges=[["a", "b</w>"]]), text)
    model("bpe-byte-fallback", with_(BPE, byte_fallback=True, vocab={"<0x61>": 0, "<0xE9>": 1, "<0xC3>": 2, "a": 3}, merges=[]), "\u00e9a\u20ac",
          decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
          normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]})
    model("bpe-unk-missing", with_(BPE, unk_token="<none>"), "xyz")
    model("bpe-empty", with_(BPE, vocab={}, merges=[]), text)
    model("bpe-large-id", with_(BPE, vocab={"a": 4294967295, "b": 0}, merges=[]), "ab")
    model("bpe-same-id", with_(BPE, vocab={"a": 1, "b": 1, "ab": 1}, merges=[["a", "b"]]), text)
    model("unigram", {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581a", -1.5], ["b", -2.0], ["ab", -2.5]], "byte_fallback": False}, text,
          pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
          decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True})
    model("unigram-no-unk", {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]], "byte_fallback": True}, "xyz")
    model("unigram-unk-beyond", {"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0]]}, "xyz")
    model("unigram-empty", {"type": "Unigram", "unk_id": None, "vocab": []}, "a")
    model("unigram-empty-piece", {"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["a", 1e308], ["b", -1e308]]}, "abba")
    model("wordpiece", {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2}}, text,
          normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
          pre_tokenizer={"type": "BertPreTokenizer"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
          post_processor={"type": "BertProcessing", "sep": ["[UNK]", 0], "cls": ["a", 1]})
    model("wordpiece-no-unk", {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 0, "vocab": {"a": 1}}, text)
    seed("tokenizer", "charsmap", with_(WORDS, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "ab")
    seed("tokenizer", "charsmap-empty", with_(WORDS, normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "ab")
    seed("tokenizer", "charsmap-short", with_(WORDS, normalizer={"type": "Precompiled", "precompiled_charsmap": "CAAAAAABAAAAAgAA"}), "\u2460 ab")
    seed("tokenizer", "charsmap-no-base64", with_(WORDS, normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}), "ab")
    whole = raw(WORDS)
    seed("tokenizer", "cut-in-decoder", whole[: whole.index(b'"decoder"') + 5])
    seed("tokenizer", "cut-in-decoder-value", whole[: whole.index(b'"decoder"') + 10])
    seed("tokenizer", "cut-in-model", whole[: whole.index(b'"model"') + 30])
    frame = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    seed("tokenizer", "frame-without-token", with_(WORDS, post_processor=with_(frame, special_tokens={})), "So")
    seed("tokenizer", "frame", with_(WORDS, post_processor=with_(frame, special_tokens={"[CLS]": {"id": "[CLS]", "ids": [0], "tokens": ["<s>"]}})), "So")
    seed("tokenizer", "frame-id-beyond", with_(WORDS, post_processor=with_(frame, special_tokens={"[CLS]": {"id": "[CLS]", "ids": [99], "tokens": ["<s>"]}})), "So")
    seed("tokenizer", "frame-lengths", with_(WORDS, post_processor=with_(frame, special_tokens={"[CLS]": {"id": "[CLS]", "ids": [], "tokens": ["<s>"]}})), "So")
    seed("tokenizer", "frame-pair-only", with_(WORDS, post_processor=with_(frame, single=[{"Sequence": {"id": "B", "type_id": 1}}], special_tokens={})), "So")
    replace = {"type": "Replace", "pattern": {"Regex": " {0,}"}, "content": "\u2581"}
    prepend = {"type": "Prepend", "prepend": "\u2581"}
    seed("tokenizer", "replace-nothing-then-prepend", with_(WORDS, normalizer={"type": "Sequence", "normalizers": [replace, prepend]}), "So the")
    seed("tokenizer", "replace-nothing-by-nothing", with_(WORDS, normalizer={"type": "Sequence", "normalizers": [with_(replace, content=""), prepend]}), "So the")
    seed("tokenizer", "prepend-then-replace-all", with_(WORDS, normalizer={"type": "Sequence", "normalizers": [prepend, {"type": "Replace", "pattern": {"Regex": ".*"}, "content": ""}, prepend]}), "So the")
    seed("tokenizer", "replace-empty-string", with_(WORDS, normalizer={"type": "Replace", "pattern": {"String": ""}, "content": "xx"}), "So the")
    seed("tokenizer", "regex-slow", with_(WORDS, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}), "a" * 40 + "!")
    seed("tokenizer", "regex-slow-lookahead", with_(WORDS, normalizer={"type": "Replace", "pattern": {"Regex": "(?=(a|aa)+b)x"}, "content": ""}), "a" * 40 + "!")
    seed("tokenizer", "regex-large", with_(WORDS, normalizer={"type": "Replace", "pattern": {"Regex": "((a{1,200}){1,200}){1,200}"}, "content": ""}), "aaa")
    seed("tokenizer", "regex-broken", with_(WORDS, normalizer={"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""}), "aaa")
    for kind in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel"]:
        seed("tokenizer", f"normalizer-{kind.lower()}", with_(WORDS, normalizer={"type": kind}), "\u00c5\u1e9b\u0323 \ufb01 \u0130 \u00df\U0001f600\x00\u200d")
    seed("tokenizer", "normalizer-strip", with_(WORDS, normalizer={"type": "Strip", "strip_left": True, "strip_right": True}), "   ")
    for length in [0, 3]:
        seed("tokenizer", f"fixed-length-{length}", with_(WORDS, pre_tokenizer={"type": "FixedLength", "length": length}), "So the score")
    parts = [{"type": "Whitespace"}, {"type": "Punctuation", "behavior": "MergedWithNext"}, {"type": "Digits", "individual_digits": True}, {"type": "UnicodeScripts"}, {"type": "CharDelimiterSplit", "delimiter": "e"}]
    seed("tokenizer", "pre-tokenizers", with_(WORDS, pre_tokenizer={"type": "Sequence", "pretokenizers": parts}), "So the 12 \u65e5\u672c\u8a9e, score.")
    decoders = [{"type": "CTC", "pad_token": "<s>", "word_delimiter_token": "|", "cleanup": True}, {"type": "BPEDecoder", "suffix": "</w>"}, {"type": "Strip", "content": "S", "start": 9, "stop": 9}]
    for decoder in decoders:
        seed("tokenizer", f"decoder-{decoder['type'].lower()}", with_(WORDS, decoder=decoder), "So the score")
    added = {"id": 8, "content": "the", "single_word": True, "lstrip": True, "rstrip": True, "normalized": True, "special": True}
    for name, change in [("plain", {}), ("empty", {"content": ""}), ("large-id", {"id": 4294967295}), ("taken-id", {"id": 1}), ("negative-id", {"id": -1}), ("space", {"content": " "})]:
        seed("tokenizer", f"added-{name}", with_(WORDS, added_tokens=[with_(added, **change)]), "So the the score")
    seed("tokenizer", "truncation-padding", with_(WORDS, truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}, padding={"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}), "So the")
    seed("tokenizer", "spaces-are-merged", with_(WORDS, pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}), "So the")
    seed("tokenizer", "unknown-type", with_(WORDS, model={"type": "Neural"}), "So")
    for name, text in [("nothing", ""), ("null", "null"), ("list", "[]"), ("number", "3"), ("page", "<!doctype html>"), ("pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), ("binary", b"\x00\xff\xfe{"), ("escape", '{"\\u001b[31m": 1, "model": "\\u001b]0;x\\u0007"}')]:
        seed("tokenizer", f"no-{name}", text)


def templates():
    row = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "instruction": "Count.", "response": "2", "x": [1, 2.5, None, {"a": True}]}
    cases = {
        "plain": "{{ prompt }}",
        "judge": "{{ instruction }}\n{% if rubric %}{{ rubric }}{% endif %}{{ scores | join(', ') }} {{ phrase }}",
        "llama": "{{ bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "qwen": "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{%- endif %}",
        "mistral": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
        "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "generation-open": "{% generation %}a",
        "generation-as-text": "{{ 'not {% generation %} here' }}{# {% generation %} #}{% raw %}{% generation %}{% endraw %}",
        "date": "{{ strftime_now('%d %b %Y') }}",
        "date-guarded": "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% endif %}{{ date_string | default('26 Jul 2024') }}",
        "date-other": "{{ strftime_now('%Q %') }}",
        "tools": "{% if tools %}{% for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}{% endif %}{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}",
        "tojson": "{{ x | tojson(sort_keys=true, separators=(',', ':')) }}{{ x | tojson(ensure_ascii=true) }}",
        "rsplit": "{{ 'a b c'.rsplit(' ', 1)[-1] }}{{ 'a-b'.split('-') }}{{ ' a'.lstrip() }}{{ 'a'.startswith('a') }}",
        "namespace-cycle": "{% set n = namespace() %}{% set n.x = n %}{{ n }}",
        "namespace-cycle-tojson": "{% set n = namespace() %}{% set n.x = n %}{{ n | tojson }}",
        "namespace-cycle-equal": "{% set n = namespace() %}{% set n.x = n %}{{ n == n }}{{ [n, n] | unique }}",
        "namespace-cycle-length": "{% set n = namespace() %}{% set n.x = [n] %}{{ n.x | string | length }}",
        "namespace-cycle-two": "{% set a = namespace() %}{% set b = namespace() %}{% set a.x = b %}{% set b.x = a %}{{ a | pprint }}",
        "format-precision": "{{ '%.70000f' | format(1) }}",
        "format-width": "{{ '%198552928498616606d' | format(1) }}",
        "format-star": "{{ '%*d' | format(999999999, 1) }}{{ '%.*f' | format(999999999, 1.0) }}",
        "format-short": "{{ '%s %s' | format(1) }}{{ '%' | format }}{{ '%q' | format(1) }}",
        "format-method": "{{ '{:>1000000000}'.format(1) }}{{ '{0.x}'.format(1) }}",
        "batch": "{{ [1] | batch(10**9, 2) }}",
        "batch-zero": "{{ [1] | batch(0) }}",
        "slice": "{{ [1] | slice(10**9) }}",
        "slice-zero": "{{ [1] | slice(0) }}",
        "loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "loop-of-text": "{% for a in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "doubling": "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | length }}",
        "doubling-lists": "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s | length }}",
        "nesting": "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | length }}",
        "nesting-shown": "{% set n = namespace(x=[]) %}{% for i in range(20000) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
        "nesting-tojson": "{% set n = namespace(x={}) %}{% for i in range(20000) %}{% set n.x = {'a': n.x} %}{% endfor %}{{ n.x | tojson }}",
        "nesting-namespaces": "{% set n = namespace(x=1) %}{% for i in range(90000) %}{% set n.x = namespace(x=n.x) %}{% endfor %}done",
        "repeat": "{{ 'a' * 10**12 }}",
        "repeat-list": "{{ ([0] * 10**12) | length }}",
        "range": "{{ range(10**12) | list | length }}",
        "range-join": "{{ range(99999) | join('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' * 10000) | length }}",
        "power": "{{ 10**10000 }}{{ 2**-1 }}{{ 0**-1 }}",
        "divide": "{{ 1 // 0 }}",
        "modulo": "{{ 1 % 0 }}",
        "least": "{{ (-9223372036854775807 - 1) // -1 }}{{ (-9223372036854775807 - 1) | abs }}",
        "large": "{{ 170141183460469231731687303715884105727 + 1 }}{{ -170141183460469231731687303715884105728 }}",
        "steps": "{{ 'abc'[::0] }}",
        "steps-back": "{{ 'abc'[::-1] }}{{ [1, 2][::-9223372036854775807] }}{{ 'abc'[-9223372036854775807:9223372036854775807] }}",
        "index": "{{ [1][9223372036854775807] }}{{ [1][-9223372036854775807] }}",
        "round": "{{ 1.5 | round(400) }}{{ 1.5 | round(-400) }}{{ 1e308 | round(2) }}",
        "indent": "{{ 'a\nb' | indent(10**10) }}",
        "tojson-indent": "{{ x | tojson(indent=10**10) }}",
        "center": "{{ 'a'.center(10**10) }}",
        "just": "{{ 'a'.ljust(10**10) }}{{ 'a'.rjust(10**10) }}{{ 'a'.zfill(10**10) }}",
        "replace-nothing": "{{ ('abc' * 10000).replace('', 'x' * 10000) | length }}{{ ('abc' * 10000) | replace('', 'x' * 10000) | length }}",
        "join-text": "{{ ('a' * 100000) | join('b' * 100000) | length }}",
        "truncate": "{{ 'abc' | truncate(0) }}{{ 'abc' | wordwrap(0) }}{{ 'a b c' | wordcount }}",
        "sort": "{{ [3, 'a', none, [1]] | sort }}{{ x | min }}{{ [nan] | sort }}",
        "filters": "{{ x | first }}{{ x | last }}{{ x | sum }}{{ x | groupby('a') }}{{ x | map('upper') | list }}{{ x | items }}{{ x | dictsort }}{{ x | select }}",
        "tests": "{{ x is divisibleby(0) }}{{ 1 is sameas(1) }}{{ 'a' is in('abc') }}{{ x is mapping }}",
        "macro": "{% macro m(a, b=1) %}{{ a }}{{ b }}{{ caller is defined }}{% endmacro %}{{ m(1) }}{{ m(b=2, a=1) }}",
        "macro-endless": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "macro-doubling": "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "macro-of-macros": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "call": "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}a{% endcall %}",
        "include-itself": "{% include 'chat' %}{% include 'prompt' %}",
        "extends-itself": "{% extends 'chat' %}{% block a %}{{ super() }}{% endblock %}",
        "import-itself": "{% import 'chat' as c %}{{ c }}",
        "block-endless": "{% block a %}{{ self.a() }}{% endblock %}",
        "loop-recursive": "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "loop-controls": "{% for a in range(10) %}{% if a == 2 %}{% continue %}{% endif %}{% if a == 5 %}{% break %}{% endif %}{{ a }}{{ loop.nextitem }}{{ loop.cycle(1, 2) }}{% else %}none{% endfor %}",
        "loop-changed": "{% for a in x %}{{ loop.changed(a) }}{{ loop.depth }}{{ loop.previtem }}{% endfor %}",
        "filter-block": "{% filter upper | replace('A', '') %}abc{% endfilter %}{% autoescape true %}{{ '<' }}{% endautoescape %}",
        "with": "{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{% do x %}{% set a, b = 1, 2 %}{% set c %}text{% endset %}",
        "raise": "{{ raise_exception('line one\nline two \\x1b[31m') }}",
        "raise-long": "{{ raise_exception('a' * 100000) }}",
        "undefined": "{{ nothing }}",
        "undefined-attribute": "{{ nothing.at.all }}",
        "undefined-long": "{{ " + "a" * 3000 + ".b }}",
        "escapes": "\x1b[31m{{ '\x1b' }}{% \x1b %}",
        "debug": "{{ debug() }}",
        "open": "{% for a in x %}",
        "open-expression": "{{ 'a",
        "comment": "{# never closed",
        "unicode": "{{ '\u65e5\u672c' | length }}{{ 'stra\u00dfe' | upper }}{{ '\U0001f600'[0] }}{{ '\\ud83d' }}",
        "numbers": "{{ 1_000 }}{{ 0x1F }}{{ 1e400 }}{{ .5 }}{{ 1. }}{{ 99999999999999999999999999999999999999999999 }}",
        "nothing": "",
        "white": " \n\t",
    }
    for name, text in cases.items():
        seed("template", name, text, row) if name in ("plain", "tools", "filters", "judge") else seed("template", name, text)
    seed("template", "tool-calls", cases["tools"], {"tools": [{"type": "function"}], "messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}]})
    seed("template", "content-parts", cases["llama"], {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})
    seed("template", "row-large-numbers", "{{ id }}{{ x }}", '{"prompt": "a", "id": 12345678901234567890123, "x": 1e999}')
    seed("template", "no-utf8", b"{{ prompt }}\xff\xfe")


def configs():
    llama = with_(CONFIG, architectures=["LlamaForCausalLM"])
    seed("config", "llama", llama)
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    seed("config", "llama3", with_(llama, rope_scaling=rope, eos_token_id=[1, 2], rope_theta=500000.0))
    seed("config", "new-form", {**{k: v for k, v in llama.items() if k != "torch_dtype"}, "dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}})
    seed("config", "mistral", with_(CONFIG, model_type="mistral", sliding_window=4))
    seed("config", "qwen2", with_(CONFIG, model_type="qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=0, layer_types=["sliding_attention"]))
    seed("config", "qwen3", with_(CONFIG, model_type="qwen3", attention_bias=False, head_dim=128))
    changes = {
        "eos-minus-one": {"eos_token_id": -1}, "pad-minus-one": {"pad_token_id": -1}, "eos-none": {"eos_token_id": []},
        "half": {"torch_dtype": "half"}, "float": {"torch_dtype": "float"}, "torch-half": {"torch_dtype": "torch.float16"}, "float8": {"torch_dtype": "float8_e4m3fn"},
        "linear-1": {"rope_scaling": {"type": "linear", "factor": 1.0}}, "linear-2": {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        "rope-factor-0": {"rope_scaling": with_(rope, factor=0)}, "rope-equal": {"rope_scaling": with_(rope, low_freq_factor=4.0)},
        "theta-0": {"rope_theta": 0}, "theta-large": {"rope_theta": 1e308}, "eps-0": {"rms_norm_eps": 0}, "eps-large": {"rms_norm_eps": 1e300},
        "quantised": {"quantization_config": {"quant_method": "gptq"}}, "moe": {"num_experts": 8}, "gelu": {"hidden_act": "gelu"},
        "layers-0": {"num_hidden_layers": 0}, "layers-many": {"num_hidden_layers": 4097}, "layers-most": {"num_hidden_layers": 18446744073709551615},
        "heads-0": {"num_attention_heads": 0}, "heads-3": {"num_attention_heads": 3, "num_key_value_heads": 2}, "head-odd": {"head_dim": 3},
        "head-null": {"head_dim": None}, "kv-null": {"num_key_value_heads": None}, "vocab-large": {"vocab_size": 4294967296},
        "hidden-large": {"hidden_size": 9223372036854775807}, "hidden-fraction": {"hidden_size": 4.5}, "hidden-text": {"hidden_size": "4"}, "hidden-negative": {"hidden_size": -4},
        "window-0": {"model_type": "mistral", "sliding_window": 0}, "positions-large": {"max_position_embeddings": 18446744073709551615},
        "families": {"architectures": ["Qwen2ForCausalLM"]}, "family-none": {"model_type": "gpt2"}, "escape": {"model_type": "\x1b[31mllama"},
        "layer-types": {"layer_types": ["full_attention"] * 9}, "tied-text": {"tie_word_embeddings": "yes"}, "factor": {"pretraining_tp": 2, "mlp_bias": True},
    }
    for name, change in changes.items():
        seed("config", name, with_(llama, **change))
    seed("config", "index", {"metadata": {"total_size": 9}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors", "lm_head.weight": "model-00002-of-00002.safetensors"}})
    seed("config", "index-up", {"weight_map": {"model.norm.weight": "../../etc/passwd"}})
    seed("config", "index-number", {"weight_map": {"model.norm.weight": 3}})
    seed("config", "index-list", {"weight_map": []})
    seed("config", "key-twice", '{"model_type": "llama", "model_type": "qwen2", "vocab_size": 8}')
    for name, text in [("nothing", ""), ("null", "null"), ("list", "[1]"), ("cut", '{"model_type": "llama"'), ("nan", '{"rope_theta": NaN}'), ("mark", "\ufeff{}"), ("binary", b"\xff\xfe\x00")]:
        seed("config", f"no-{name}", text)


def models():
    one = floats(4)
    seed("safetensors", "model", MODEL)
    seed("safetensors", "metadata", tensors([(n, "F32", s, floats(size(s))) for n, s in SHAPES], {"format": "pt"}))
    seed("safetensors", "bf16", tensors([(n, "BF16", s, b"\x80\x3f" * size(s)) for n, s in SHAPES]))
    seed("safetensors", "f16", tensors([(n, "F16", s, b"\x00\x3c" * size(s)) for n, s in SHAPES]))
    seed("safetensors", "nan", tensors([(n, "F32", s, b"\x00\x00\xc0\x7f" * size(s)) for n, s in SHAPES]))
    head = [("lm_head.weight", "F32", [8, 4], floats(32))]
    seed("safetensors", "tied-head", tensors([(n, "F32", s, floats(size(s))) for n, s in SHAPES] + head))
    seed("safetensors", "other-head", tensors([(n, "F32", s, floats(size(s))) for n, s in SHAPES] + [("lm_head.weight", "F32", [8, 4], floats(32, 9))]))
    seed("safetensors", "one-missing", tensors([(n, "F32", s, floats(size(s))) for n, s in SHAPES[:-1]]))
    seed("safetensors", "one-more", tensors([(n, "F32", s, floats(size(s))) for n, s in SHAPES] + [("extra", "F32", [4], one)]))
    seed("safetensors", "shape", tensors([(n, "F32", s[::-1], floats(size(s))) for n, s in SHAPES]))
    for dtype, width in [("F8_E4M3", 1), ("I64", 8), ("U8", 1), ("BOOL", 1), ("F4", 1), ("F64", 8)]:
        seed("safetensors", f"dtype-{dtype.lower()}", tensors([("model.norm.weight", dtype, [4], b"\0" * 4 * width)]))
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    odd = {
        "overlap": ({"a": entry, "b": entry}, one), "gap": ({"a": with_(entry, data_offsets=[4, 20])}, one + one), "short": ({"a": entry}, one[:8]), "long": ({"a": entry}, one * 2),
        "backwards": ({"a": with_(entry, data_offsets=[16, 0])}, one), "offsets-most": ({"a": with_(entry, data_offsets=[18446744073709551600, 18446744073709551615])}, one),
        "shape-most": ({"a": with_(entry, shape=[4294967296, 4294967296, 4])}, one), "shape-negative": ({"a": with_(entry, shape=[-4])}, one), "shape-0": ({"a": with_(entry, shape=[0], data_offsets=[0, 0])}, b""),
        "shape-none": ({"a": with_(entry, shape=[], data_offsets=[0, 4])}, one[:4]), "no-dtype": ({"a": {"shape": [4], "data_offsets": [0, 16]}}, one), "dtype-unknown": ({"a": with_(entry, dtype="F3")}, one),
        "metadata-number": ({"__metadata__": {"a": 1}, "a": entry}, one), "empty": ({}, b""), "empty-data": ({}, one), "list": ([], b""), "name-escape": ({"\x1b[31m\n": entry}, one), "name-empty": ({"": entry}, one),
        "name-long": ({"n" * 1500: entry}, one),
    }
    for name, (header, data) in odd.items():
        seed("safetensors", f"header-{name}", headed(header, data))
    twice = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
    seed("safetensors", "header-name-twice", headed(twice, one))
    for length in [0, 7, 1 << 20, 1 << 40, (1 << 64) - 1]:
        seed("safetensors", f"length-{length:x}", headed({"a": entry}, one, length))
    seed("safetensors", "cut", MODEL[:-3])
    seed("safetensors", "cut-header", MODEL[:40])
    for name, text in [("nothing", ""), ("seven", b"\0" * 7), ("eight", b"\0" * 8), ("page", "<!doctype html><p>"), ("pointer", "version https://git-lfs.github.com/spec/v1\n"), ("no-utf8", headed(b'{"\xff":1}'))]:
        seed("safetensors", f"no-{name}", text)


def gguf(pairs, described, data=b"", version=3, alignment=32):
    """A GGUF file: pairs of (key, type, value), tensors of (name, sizes, format, offset)."""
    def text(value):
        value = value.encode() if isinstance(value, str) else value
        return struct.pack("<Q", len(value)) + value

    def packed(kind, value):
        if kind == 8:
            return text(value)
        if kind == 9:
            return struct.pack("<IQ", value[0], len(value[1])) + b"".join(packed(value[0], v) for v in value[1])
        return struct.pack("<" + {4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}[kind], value)

    out = b"GGUF" + struct.pack("<IQQ", version, len(described), len(pairs))
    out += b"".join(text(key) + struct.pack("<I", kind) + packed(kind, value) for key, kind, value in pairs)
    for name, sizes, kind, offset in described:
        out += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)
    return out + b"\0" * (-len(out) % alignment) + data


def ggufs():
    sizes = [("context_length", 32), ("embedding_length", 32), ("block_count", 1), ("feed_forward_length", 4), ("attention.head_count", 1),
             ("attention.key_length", 2), ("attention.value_length", 2)]
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "4", "\u2581"]
    bpe = [("tokenizer.ggml.model", 8, "gpt2"), ("tokenizer.ggml.pre", 8, "smollm"), ("tokenizer.ggml.tokens", 9, (8, tokens)),
           ("tokenizer.ggml.merges", 9, (8, ["a b"])), ("tokenizer.ggml.token_type", 9, (5, [3, 3, 3, 1, 1, 1, 1, 4])),
           ("tokenizer.ggml.bos_token_id", 4, 1), ("tokenizer.ggml.eos_token_id", 4, 2), ("tokenizer.chat_template", 8, "{{ messages[0].content }}")]
    pieces = [("tokenizer.ggml.model", 8, "llama"), ("tokenizer.ggml.tokens", 9, (8, tokens)), ("tokenizer.ggml.scores", 9, (6, [-1.0 * n for n in range(8)])),
              ("tokenizer.ggml.token_type", 9, (5, [2, 3, 3, 1, 1, 1, 1, 1])), ("tokenizer.ggml.add_space_prefix", 7, 0), ("tokenizer.ggml.unknown_token_id", 4, 0)]
    settings = ("jurist.judge", 8, '{"scale": "1..5", "phrase": "So the overall score is "}')

    def pairs(architecture="llama", tokenizer=bpe, **changes):
        named = {name: value for name, value in sizes} | {name.replace("__", "."): value for name, value in changes.items()}
        return [("general.architecture", 8, architecture)] + [(f"{architecture}.{name}", 4, value) for name, value in named.items()] + tokenizer + [settings]

    def model(formats, architecture="llama"):
        """The tensors of a model of width 32, each in the next one of the formats (id, values a block, bytes a block)."""
        matrices = {"attn_q": [32, 2], "attn_k": [32, 2], "attn_v": [32, 2], "attn_output": [2, 32],
                    "ffn_gate": [32, 4], "ffn_up": [32, 4], "ffn_down": [4, 32]}
        described, data = [], b""
        shapes = [("token_embd.weight", [32, 8])] + [(f"blk.0.{name}.weight", shape) for name, shape in matrices.items()]
        shapes += [(name + ".weight", [32]) for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]]
        if architecture == "qwen3":
            shapes += [(f"blk.0.{name}.weight", [2]) for name in ["attn_q_norm", "attn_k_norm"]]
        for number, (name, shape) in enumerate(shapes):
            kind, values, width = formats[number % len(formats)] if len(shape) == 2 else (0, 1, 4)
            if shape[0] % values:
                kind, values, width = 1, 1, 2
            count = size(shape) // values * width
            described.append((name, shape, kind, len(data)))
            data += bytes((n * 7 + 1) % 60 for n in range(count)) if kind else floats(size(shape), 0.25)
            data += b"\0" * (-len(data) % 32)
        return described, data

    f32, f16, bf16 = (0, 1, 4), (1, 1, 2), (30, 1, 2)
    blocks = [(2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34)]
    seed("gguf", "llama-f32", gguf(pairs(), *model([f32])))
    seed("gguf", "llama-blocks", gguf(pairs(), *model(blocks)))
    seed("gguf", "llama-q8_0", gguf(pairs(), *model(blocks[4:])))
    seed("gguf", "llama-halves", gguf(pairs(tokenizer=pieces), *model([f16, bf16]), version=2))
    seed("gguf", "qwen3", gguf(pairs("qwen3"), *model([f32], "qwen3")))
    described, data = model(blocks[:1])
    split = lambda number, count=2: [("split.no", 4, number), ("split.count", 4, count)]
    first, second = described[:5], described[5:]
    at = second[0][3]
    second = [(name, shape, kind, offset - at) for name, shape, kind, offset in second]
    halves = gguf(pairs() + split(0), first, data[:at]), gguf(split(1), second, data[at:])
    seed("gguf", "split", *halves)
    seed("gguf", "split-cycle", halves[0], halves[0])
    seed("gguf", "split-missing", halves[0])
    seed("gguf", "split-many", gguf(pairs() + split(0, 0xFFFFFFFF), described, data))
    for name, changed in {"layers": {"block_count": 0xFFFFFFFF}, "heads": {"attention.head_count": 0}, "width": {"embedding_length": 0xFFFFFFFF},
                          "head-width": {"attention.key_length": 0xFFFFFFF0}, "context": {"context_length": 0}, "experts": {"expert_count": 8}}.items():
        seed("gguf", f"size-{name}", gguf(pairs(**changed), described, data))
    for name, changed in {"q2": (described[0][:2] + (10, 0)), "type": (described[0][:2] + (99, 0)), "offset": (described[0][:3] + (1 << 62,)),
                          "misaligned": (described[0][:3] + (4,)), "dimensions": ("token_embd.weight", [32, 8, 1, 1, 1], 0, 0),
                          "huge": ("token_embd.weight", [1 << 62, 1 << 62], 0, 0), "shape": ("token_embd.weight", [8, 32], 0, 0)}.items():
        seed("gguf", f"tensor-{name}", gguf(pairs(), [changed] + described[1:], data))
    seed("gguf", "overlap", gguf(pairs(), [(n, s, k, 0) for n, s, k, _ in described], data))
    seed("gguf", "twice", gguf(pairs(), described + described[:1], data))
    seed("gguf", "key-twice", gguf(pairs() + [settings], described, data))
    seed("gguf", "rope-factors", gguf(pairs(), [("rope_freqs.weight", [1], 0, 0)] + [(n, s, k, o + 32) for n, s, k, o in described], floats(8) + data))
    for name, pair in {"pre": ("tokenizer.ggml.pre", 8, "klingon"), "eos": ("tokenizer.ggml.eos_token_id", 4, 99), "merges": ("tokenizer.ggml.merges", 9, (8, ["ab"])),
                       "tokens": ("tokenizer.ggml.tokens", 9, (4, [1, 2])), "no-token": ("tokenizer.ggml.tokens", 9, (8, []))}.items():
        seed("gguf", f"tokenizer-{name}", gguf([p for p in pairs() if p[0] != pair[0]] + [pair], described, data))
    whole = gguf(pairs(), described, data)
    seed("gguf", "cut", whole[:-3])
    seed("gguf", "cut-header", whole[:200])
    seed("gguf", "big-endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    seed("gguf", "long-text", b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60) + b"k")
    seed("gguf", "list-of-lists", gguf([("k", 9, (9, [(9, [])]))], []))
    seed("gguf", "alignment", gguf([("general.alignment", 4, 0)], []))
    seed("gguf", "nothing", b"")


def bundles():
    entry = {"file": "x", "bytes": 0, "sha256": "0" * 64}
    judge = {"format": 1, "scale": "1..5", "phrase": "So the overall score is ", "template": "plain", "chat": False, "chain": False, "max_completion_length": 0}
    manifest = {
        "format": "jurist-bundle", "version": 1, "name": "tiny", "weights": "f32", "parameters": PARAMETERS, "config": CONFIG, "judge": judge,
        "tokenizer": with_(entry, file="tokenizer.json"), "shards": [with_(entry, file="weights-00001.safetensors")], "jurist": "0.1.0",
    }
    seed("bundle", "f32", manifest, WORDS, MODEL)
    half = tensors([(n, "F16" if len(s) == 2 else "F32", s, b"\x00\x3c" * size(s) if len(s) == 2 else floats(size(s))) for n, s in SHAPES])
    seed("bundle", "f16", with_(manifest, weights="f16"), WORDS, half)
    seed("bundle", "f16-wrong-type", with_(manifest, weights="f16"), WORDS, MODEL)
    seed("bundle", "cut-matrix", manifest, WORDS, tensors([("model.embed_tokens.weight", "F32", [4, 4], floats(16))]))
    # A model with whole blocks of 32, packed.
    wide = with_(CONFIG, hidden_size=32, intermediate_size=32)
    shapes = [(n, [32 if side == 4 and i == len(s) - 1 else side for i, side in enumerate(s)]) for n, s in SHAPES]
    q8 = []
    for name, shape in shapes:
        shape = [32, 32] if "mlp" in name else shape
        shape = [32, 4] if "o_proj" in name else shape
        if len(shape) == 2 and shape[1] % 32 == 0:
            q8 += [(name, "U32", [shape[0], 8], b"\1\2\3\4" * shape[0] * 8), (name + ".scales", "F32", [shape[0], 1], floats(shape[0]))]
        else:
            q8.append((name, "F32", shape, floats(size(shape))))
    count = sum(size([32, 32] if "mlp" in n else [32, 4] if "o_proj" in n else s) for n, s in shapes)
    for weights in ["q8", "q4"]:
        seed("bundle", weights, with_(manifest, weights=weights, config=wide, parameters=count), WORDS, tensors(q8))
    changes = {
        "version-2": {"version": 2}, "other-format": {"format": "zip"}, "weights-q2": {"weights": "q2"}, "parameters": {"parameters": 1}, "no-shards": {"shards": []},
        "shard-up": {"shards": [with_(entry, file="../x")]}, "shard-twice": {"shards": [entry, entry]}, "shard-manifest": {"shards": [with_(entry, file="manifest.json")]}, "shard-hash": {"shards": [with_(entry, sha256="0")]},
        "shard-large": {"shards": [with_(entry, bytes=18446744073709551615)] * 2}, "many-examples": {"examples": [{}] * 33}, "examples": {"examples": [{"prompt": "a"}]}, "no-judge": {"judge": None}, "judge-scale": {"judge": with_(judge, scale="1")},
        "judge-later": {"judge": with_(judge, format=2)}, "tokenizer-others": {"tokenizer": {**entry, "file": "tokenizer.json", "others": {"chat_template.jinja": "{{ x }}", "n": 3}}}, "config-list": {"config": []}, "name-escape": {"name": "\x1b[31m", "shards": [with_(entry, file="\x1b[31m")]},
        "tokenizer-manifest-name": {"tokenizer": with_(entry, file="manifest.json")},
    }
    for name, change in changes.items():
        seed("bundle", name, with_(manifest, **change), WORDS, MODEL[:64])
    seed("bundle", "no-tokenizer", manifest, "", MODEL)
    for name, text in [("nothing", ""), ("page", " <html>"), ("list", "[]"), ("cut", '{"format": "jurist-bundle", "version": 1')]:
        seed("bundle", f"no-{name}", text)


def adapters():
    def pair(module, r=2, rows=4, columns=4, middle=""):
        name = f"base_model.model.{LAYER}{module}"
        return [(f"{name}.lora_A{middle}.weight", "F32", [r, columns], floats(r * columns)), (f"{name}.lora_B{middle}.weight", "F32", [rows, r], floats(rows * r))]

    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "..", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none", "target_modules": ["q_proj"]}
    plain = tensors(pair("self_attn.q_proj"))
    two = tensors(pair("self_attn.q_proj") + pair("self_attn.v_proj", rows=2))
    for init in ["pissa", "olora", "corda", "loftq", "pissa_niter_4", "eva", "gaussian", "orthogonal", "lora_ga", True, False, None, 3]:
        seed("adapter", f"init-{str(init).lower()}", with_(config, init_lora_weights=init), plain)
    patterns = {
        "alpha-star": {"alpha_pattern": {".*v_proj": 64}}, "alpha-layers": {"alpha_pattern": {"layers\\.\\d+\\.self_attn\\.v_proj": 64}}, "alpha-short": {"alpha_pattern": {"v_proj": 64}},
        "alpha-broken": {"alpha_pattern": {"(v_proj": 64}}, "alpha-slow": {"alpha_pattern": {"(.*)*x": 64, "((a{1,200}){1,200}){1,200}": 3}}, "alpha-text": {"alpha_pattern": {"v_proj": "64"}}, "alpha-0": {"alpha_pattern": {"v_proj": 0}},
        "alpha-look": {"alpha_pattern": {"(?<=self_attn\\.)v_proj": 64, "(?!x)q_proj": 2, "(a)\\1": 1}},
    }
    for name, change in patterns.items():
        seed("adapter", name, with_(config, target_modules=["q_proj", "v_proj"], **change), two)
    seed("adapter", "rank-pattern", with_(config, r=8, rank_pattern={"layers\\.[0-2]\\.self_attn\\.q_proj": 2}), plain)
    seed("adapter", "rank-other", with_(config, rank_pattern={"q_proj": 3}), plain)
    seed("adapter", "rank-large", with_(config, rank_pattern={"q_proj": 1e300}), plain)
    changes = {
        "base-null": {"base_model_name_or_path": None}, "base-itself": {"base_model_name_or_path": "adapter"}, "base-dot": {"base_model_name_or_path": "."}, "base-hub": {"base_model_name_or_path": "org/name-bnb-4bit"},
        "base-long": {"base_model_name_or_path": "a/" * 800}, "base-nul": {"base_model_name_or_path": "a\0b"}, "base-escape": {"base_model_name_or_path": "\x1b[31m\n"},
        "rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "bias-all": {"bias": "all"}, "other": {"peft_type": "IA3"}, "empty-lists": {"modules_to_save": [], "layer_replication": [], "target_parameters": [], "trainable_token_indices": []},
        "saved": {"modules_to_save": ["lm_head"]}, "r-0": {"r": 0}, "r-fraction": {"r": 2.5}, "r-large": {"r": 1e18}, "r-text": {"r": "2"}, "alpha-nan": {"lora_alpha": None}, "alpha-large": {"lora_alpha": 1e308}, "dropout": {"lora_dropout": -1},
        "targets-text": {"target_modules": ".*q_proj"}, "targets-number": {"target_modules": 3}, "layers": {"layers_to_transform": [0], "layers_pattern": "layers"}, "layers-other": {"layers_to_transform": [5]}, "exclude": {"exclude_modules": ["q_proj"]},
        "replication": {"layer_replication": [[0, 1]]}, "megatron": {"megatron_config": {}, "megatron_core": "megatron.core"},
    }
    for name, change in changes.items():
        seed("adapter", name, with_(config, **change), plain)
    seed("adapter", "plain", config, plain)
    seed("adapter", "default-keys", config, tensors(pair("self_attn.q_proj", middle=".default")))
    seed("adapter", "other-model", config, tensors(pair("self_attn.q_proj", columns=8)))
    seed("adapter", "unknown-module", config, tensors(pair("self_attn.z_proj")))
    seed("adapter", "head", with_(config, target_modules=["lm_head"]), tensors([("base_model.model.lm_head.lora_A.weight", "F32", [2, 4], floats(8)), ("base_model.model.lm_head.lora_B.weight", "F32", [8, 2], floats(16))]))
    seed("adapter", "embedding", config, tensors([("base_model.model.model.embed_tokens.lora_embedding_A", "F32", [2, 8], floats(16))]))
    seed("adapter", "a-alone", config, tensors(pair("self_attn.q_proj")[:1]))
    seed("adapter", "b-rank", config, tensors(pair("self_attn.q_proj")[:1] + pair("self_attn.q_proj", r=4)[1:]))
    seed("adapter", "no-rank", config, tensors(pair("self_attn.q_proj", r=0)))
    seed("adapter", "one-side", config, tensors([(n, t, s[:1], floats(s[0])) for n, t, s, _ in pair("self_attn.q_proj")]))
    seed("adapter", "nan", config, tensors([(n, t, s, b"\x00\x00\xc0\x7f" * size(s)) for n, t, s, _ in pair("self_attn.q_proj")]))
    seed("adapter", "no-tensors", config, "")
    seed("adapter", "no-config", "", plain)
    seed("adapter", "list", "[]", plain)


def data():
    both = ["rows", "columns"]

    def file(name, ending, content, targets=both):
        for target in targets:
            seed(target, name, ending.encode() + b"\n" + raw(content))

    def lines(name, *rows, targets=both):
        file(name, "jsonl", "\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows) + "\n", targets)

    user = {"role": "user", "content": "Hi"}
    lines("plain", {"prompt": "a", "score": 4, "h": 1, "j": 2.5})
    lines("grading", {"instruction": "a", "response": "b", "reference": "c", "rubric": "d", "score": 4, "feedback": "x"})
    lines("tool-calls", {"messages": [user, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "content": "1"}, {"role": "assistant", "content": "4"}], "tools": [{"type": "function"}], "score": 3})
    lines("helpsteer", {"prompt": "a", "response": "b", "helpfulness": 4, "score": 4})
    lines("annotators", {"prompt": "a", "score": 4.5, "labels": [4, None, 5]}, {"prompt": "a", "score": [4, None, 5]}, {"prompt": "a", "score": [None]}, {"prompt": "a", "score": []}, {"prompt": "a", "score": [4, "5", True]})
    lines("contradiction", {"prompt": "a", "feedback": "Good. [RESULT] 2", "score": 5}, {"prompt": "a", "feedback": "Good. [RESULT] 5", "score": 5}, {"instruction": "a", "output": "b [RESULT] 3", "orig_score": "4"})
    lines("large-id", '{"id": 12345678901234567890123, "prompt": "a", "score": 3, "h": 12345678901234567890123, "j": 1e-400}', {"id": 1.50, "prompt": "a", "score": 3, "judge": {"expected": 3}})
    lines("not-a-number", '{"prompt": "a", "h": NaN, "j": 3}', '{"prompt": "a", "h": Infinity, "j": -Infinity}', '{"prompt": "a", "h": 1e999, "j": "nan"}', '{"prompt": "NaN", "h": "inf", "j": null}')
    lines("words", {"h": "pass", "j": True}, {"h": "fail", "j": False}, {"h": "good", "j": "bad"})
    lines("content-parts", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "url": "x"}, "b"]}], "score": 3}, {"prompt": [{"role": "user", "content": []}], "completion": [{"role": "assistant", "content": "b"}], "score": 3})
    lines("verl", {"prompt": [user], "reward_model": {"ground_truth": "4", "style": "rule"}, "data_source": "x"})
    lines("prometheus", {"instruction": "###Task Description:\nx\n###The instruction to evaluate:\na\n###Response to evaluate:\nb\n###Reference Answer (Score 5):\nc\n###Score Rubrics:\n[d]\nScore 1: e\n###Feedback:", "output": "Feedback. So the overall score is 4. [RESULT] 4", "orig_score": "4", "orig_feedback": "f"})
    lines("prometheus-eval", {"orig_instruction": "a", "orig_response": "b", "orig_reference_answer": "c", "orig_criteria": "d", "orig_score1_description": "e", "gpt4_feedback": ["x", "y", "z"], "gpt4_score": [3, 4, 5], "instruction": "i"})
    lines("rubric-object", {"instruction": "a", "response": "b", "rubric": {"criteria": "c", "score1_description": "d", "1": "e"}, "score": 2}, {"instruction": "a", "response": "b", "rubric": ["c", 1], "score": 2})
    lines("empty-texts", {"prompt": "", "score": 1}, {"prompt": " \n", "score": 1}, {"instruction": "", "response": "", "score": 1}, {"messages": [], "score": 1}, {"messages": [{"role": "assistant", "content": "x"}], "score": 1})
    lines("types", {"prompt": 3, "score": 1}, {"prompt": "a", "score": "four"}, {"prompt": "a", "score": {"a": 1}}, {"prompt": "a", "score": True}, {"prompt": {"a": 1}, "score": 1}, {"id": [1], "prompt": "a", "score": 1}, {"messages": "[{\"role\": \"user\", \"content\": \"a\"}]", "score": 1}, {"prompt": "a", "messages": [user], "score": 1}, {})
    lines("key-twice", '{"prompt": "a", "prompt": "b", "score": 1, "h": 1, "h": 2, "j": 1}')
    lines("nested-key", {"h": 1, "a": {"b": 2}, "a.b": 3, "j": {"h": 1}})
    lines("lists", {"h": [1, 2], "j": [1e308, 1e308]}, {"h": [], "j": [None, 1]}, {"h": ["1"], "j": [[1]]})
    lines("large-scores", {"prompt": "a", "score": [1e308, 1e308], "h": [1e308, 1e308], "j": [-1e308, -1e308]}, {"prompt": "a", "score": 1e308, "scores": [1e308, 1e308, 1e308]})
    lines("chains", {"prompt": "a", "chain": "b", "feedback": "c", "score": 1}, {"prompt": "a", "completion": [{"role": "assistant", "content": "b"}, user], "score": 1}, {"prompt": "a", "chain": " ", "score": 1}, {"prompt": "a", "chain": "So the overall score is 4.", "score": 4})
    lines("not-rows", "3", "null", "[1]", '"text"', "{", "}", "{'a': 1}", '{"a": 1,}', "// comment", '{"prompt": "a", "score": 1} {"b": 2}')
    lines("escapes", '{"prompt": "\\u001b[31m", "score": "\\u001b[2J", "\\u001b]0;x\\u0007": 1}', "\x1b[31m", '{"h": "\\u001b[31m", "j": 1}')
    lines("surrogates", '{"prompt": "\\ud83d", "score": 1}', '{"prompt": "\\ud83d\\ude00", "score": 1, "h": 1, "j": 1}')
    lines("returns", '{"prompt": "a", "score": 1, "h": 1, "j": 1}\r\n\r\n{"prompt": "b", "score": 1, "h": 1, "j": 1}\r{"x":1}')
    file("no-break-space", "json", b"\xc2\xa0[")
    file("no-break-spaces", "json", b"\xc2\xa0\n\xe2\x80\x83[{\"prompt\":\"a\",\"score\":1,\"h\":1,\"j\":2}]\xc2\xa0")
    file("vertical-tab", "json", b"\x0b\x0c\x1c\xc2\x85[{}]")
    file("mark-array", "json", b"\xef\xbb\xbf [ {\"prompt\":\"a\",\"score\":1,\"h\":1,\"j\":2} , {\"prompt\":\"b\",\"score\":2,\"h\":1,\"j\":2}\n]\n")
    file("mark-alone", "json", b"\xef\xbb\xbf")
    file("marks", "csv", b"\xef\xbb\xbf\xef\xbb\xbfh,j\n1,2\n")
    for name, text in [("open", "[{\"h\":1,\"j\":2}"), ("comma", "[{\"h\":1,\"j\":2},]"), ("no-comma", "[{\"h\":1,\"j\":2}{\"h\":1,\"j\":2}]"), ("more", "[{\"h\":1,\"j\":2}] {}"), ("empty", "[]"), ("numbers", "[1, 2]"), ("half", "[{\"h\":1,\"j\""), ("alone", "["), ("object", '{"data": [{"prompt": "a"}]}')]:
        file(f"array-{name}", "json", text)
    csvs = {
        "plain": "prompt,score,h,j\na,4,1,2\nb,5,3,4\n", "quoted": 'prompt,score,h,j\n"a, ""b""\nc",4,"1","2"\n', "quote-open": 'prompt,score,h,j\n"a,4,1,2\n', "quote-inside": 'prompt,score,h,j\na"b,4,1,2\n"a"b,4,1,2\n',
        "semicolons": "prompt;score;h;j\na;4;1,5;2\n", "semicolons-in-quotes": 'id,"Q1; clarity; 1-5","Q2; tone; 1-5",judge,h,j\n1,2,3,4,5,6\n', "trailing-commas": "prompt,score,h,j,,\na,4,1,2,,\n,,,,,\n", "short-row": "prompt,score,h,j\na,4\n", "long-row": "prompt,score,h,j\na,4,1,2,3\n",
        "header-twice": "h,h,j\n1,2,3\n", "header-number": "1,2,3\n4,5,6\n", "header-empty": ",,\n1,2,3\n", "header-alone": "h,j\n", "header-no-break": "h,j", "blank-lines": "\n\nh,j\n\n1,2\n\n\n3,4\n\n", "returns": "h,j\r1,2\r3,4\r", "returns-breaks": "h,j\r\n1,2\r\n\r\n3,4\r\n",
        "return-in-quotes": 'h,j\r\n"1\r\n",2\r\n"3\r",4\n', "tabs-in-csv": "h\tj\n1\t2\n", "missing": "h,j\n,nan\nNA,null\nN/A,none\n-,?\n", "infinite": "h,j\ninf,-inf\n1e999,Infinity\n", "list": 'prompt,score,h,j\na,"[4, null, 5]","[1,2]",3\na,"[]","[",3\n', "spaces": " h , j \n 1 , 2 \n", "nul": "h,j\n1\0,2\n",
        "escape": "h,j\n\x1b[31m,2\n", "formula": "h,j\n=1+1,2\n", "quote-alone": '"', "quotes": '"""', "comma": ",", "wide": "prompt,\u3000,h,j\na,b,1,2\n", "json-cell": 'h,j\n"{""a"": 1}",[2]\n',
    }
    for name, text in csvs.items():
        file(f"csv-{name}", "csv", text)
    file("csv-no-utf8", "csv", b"h,j\n\xff,2\n")
    file("csv-utf16", "csv", "h,j\n1,2\n".encode("utf-16"))
    file("tsv", "tsv", "prompt\tscore\th\tj\na, b\t4\t1\t2\n")
    file("tsv-quotes", "tsv", 'h\tj\n"1\t2\n')
    line = b'{"prompt": "a", "score": 4, "h": 1, "j": 2}\n'
    packed = gzip.compress(line, 9, mtime=0)
    file("gzip", "jsonl.gz", packed)
    file("gzip-two", "jsonl.gz", packed + packed)
    file("gzip-cut", "jsonl.gz", packed[:-6])
    file("gzip-sum", "jsonl.gz", packed[:-8] + b"\0\0\0\0" + packed[-4:])
    file("gzip-more", "jsonl.gz", packed + b"more")
    file("gzip-head", "jsonl.gz", packed[:4])
    file("gzip-not", "jsonl.gz", line)
    file("gzip-in-gzip", "jsonl.gz", gzip.compress(packed, 9, mtime=0))
    file("gzip-csv", "csv.gz", gzip.compress(b"prompt,score,h,j\na,4,1,2\n", 9, mtime=0))
    file("gzip-zeros", "jsonl.gz", gzip.compress(b" " * 100_000, 9, mtime=0))
    frame = zstd(line)
    file("zstd", "jsonl.zst", frame)
    file("zstd-two", "jsonl.zst", frame + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + frame)
    file("zstd-cut", "jsonl.zst", frame[:-4])
    file("zstd-sum", "jsonl.zst", zstd(line, b"\1\2\3\4"))
    file("zstd-skip-long", "jsonl.zst", b"\x50\x2a\x4d\x18\xff\xff\xff\xff")
    file("zstd-dictionary", "jsonl.zst", b"\x28\xb5\x2f\xfd\x21\x07" + bytes([len(line)]) + frame[6:])
    file("zstd-window", "jsonl.zst", b"\x28\xb5\x2f\xfd\x00\xff\x01\0\0")
    file("zstd-spaces", "jsonl.zst", b"\x28\xb5\x2f\xfd\x00\x50" + (struct.pack("<I", (128 << 10) << 3 | 2)[:3] + b" ") * 20)
    file("zstd-head", "jsonl.zst", frame[:5])
    for name, text in [("nothing", ""), ("page", "<!DOCTYPE html><html>"), ("xml", "<?xml version='1.0'?>"), ("pointer", "version https://git-lfs.github.com/spec/v1\n"), ("zip", b"PK\x03\x04abc"), ("arrow", b"ARROW1\0\0"), ("parquet", b"PAR1\x15\x04PAR1"), ("bzip2", b"BZh91AY"), ("binary", bytes(range(64)))]:
        file(f"no-{name}", "jsonl", text)


def trainers():
    jurist = {
        "format": 1, "rng": {"generator": "threefry2x32-20", "seed": 42}, "order": {"epoch": 0, "position": 1, "rows": 3}, "optimizer_steps": 2, "nonfinite_in_a_row": 0,
        "nonfinite_steps": 0, "metrics_bytes": 100, "tuning": None, "extra": {},
    }
    state = {
        "best_global_step": None, "best_metric": None, "best_model_checkpoint": None, "epoch": 0.5, "eval_steps": 0, "global_step": 2, "is_hyper_param_search": False, "is_local_process_zero": True,
        "is_world_process_zero": True, "log_history": [], "logging_steps": 1, "max_steps": 4, "num_input_tokens_seen": 10, "num_train_epochs": 1, "save_steps": 2, "stateful_callbacks": {}, "total_flos": 0.0,
        "train_batch_size": 2, "trial_name": None, "trial_params": None, "jurist": jurist,
    }
    three = [(f"{part}.{n}", "F32", s, floats(size(s))) for part in ["master", "exp_avg", "exp_avg_sq"] for n, s in SHAPES]
    small = tensors([(f"{part}.model.norm.weight", "F32", [4], floats(4)) for part in ["master", "exp_avg", "exp_avg_sq"]])
    seed("trainer_state", "whole", state, tensors(three))
    most = 18446744073709551615
    for key in ["optimizer_steps", "nonfinite_in_a_row", "nonfinite_steps", "metrics_bytes"]:
        seed("trainer_state", f"most-{key}", with_(state, jurist=with_(jurist, **{key: most})), small)
    for key in ["global_step", "max_steps", "num_input_tokens_seen", "save_steps", "eval_steps", "logging_steps", "num_train_epochs", "train_batch_size", "best_global_step"]:
        seed("trainer_state", f"most-{key}", with_(state, **{key: most}), small)
    for name, order in [("epoch", {"epoch": most}), ("position", {"position": most}), ("rows", {"rows": most}), ("rows-0", {"rows": 0, "position": 0}), ("all", {"epoch": most, "position": most - 1, "rows": most}), ("end", {"position": 3}), ("negative", {"epoch": -1})]:
        seed("trainer_state", f"order-{name}", with_(state, jurist=with_(jurist, order=with_(jurist["order"], **order))), small)
    changes = {
        "later": {"jurist": with_(jurist, format=2)}, "no-jurist": {"jurist": None}, "epoch-negative": {"epoch": -1e308}, "metric-null": {"best_metric": "nan"}, "history": {"log_history": [{"loss": 1}, 3, None]}, "best-up": {"best_model_checkpoint": "../../x"},
        "tuning": {"jurist": with_(jurist, tuning={"lanes": 1}, extra={"a": [1]})}, "generator": {"jurist": with_(jurist, rng={"generator": "mt", "seed": -1})}, "more-keys": {"unknown": 1},
    }
    for name, change in changes.items():
        seed("trainer_state", name, with_(state, **change), small)
    seed("trainer_state", "no-tensors", state, "")
    seed("trainer_state", "tensors-cut", state, small[:-5])
    seed("trainer_state", "tensors-long", state, small + b"x")
    seed("trainer_state", "tensors-bf16", state, tensors([("master.model.norm.weight", "BF16", [4], b"\0" * 8)]))
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    seed("trainer_state", "tensors-odd", state, tensors([("master.model.norm.weight", "F32", [4], floats(4)), ("exp_avg.model.norm.weight", "U8", [5], b"\0" * 5)]))
    seed("trainer_state", "tensors-most", state, headed({"a": with_(entry, data_offsets=[0, most])}, b""))
    seed("trainer_state", "tensors-backwards", state, headed({"master.model.norm.weight": with_(entry, data_offsets=[16, 0])}, floats(4)))
    seed("trainer_state", "tensors-header-long", state, headed({"a": entry}, floats(4), 100 << 20))
    for name, text in [("nothing", ""), ("list", "[]"), ("cut", raw(state)[:200]), ("transformers", '{"global_step": 3, "epoch": 1.0}')]:
        seed("trainer_state", f"no-{name}", text, small)


def arguments():
    def words(name, *words):
        seed("arguments", name, "\n".join(words))

    run = ["train", "--model", "m", "--train-file", "t.jsonl", "--output-dir", "o"]
    words("help", "--help")
    words("help-train", "train", "--help")
    words("version", "--version")
    words("train", *run)
    words("train-many", *run, "--learning-rate", "1e-5", "--scale=0..4=0..1", "--method", "real", "--num-generations", "8", "--lora-r=16", "--set", "weight_decay=0.1", "--resume", "--seed", "18446744073709551615")
    words("scale-negative", *run, "--scale", "-1..1")
    words("scale-infinite", *run, "--method", "raft", "--scale=a,b=-1e308,1e308")
    words("scale-words", *run, "--scale", "bad,ok,good=0,1,2")
    words("scale-long", *run, "--scale", "0..1000000000000")
    words("scale-many", *run, "--scale", "0..99999:0")
    words("scale-most", *run, "--scale=-9223372036854775808..9223372036854775807:1")
    words("numbers", *run, "--learning-rate", "nan", "--warmup-ratio", "2")
    words("infinite", *run, "--learning-rate", "inf")
    words("negative", *run, "--max-steps", "-1", "--beta", "-0.0", "--weight-decay", "-1")
    words("misspelt", *run, "--methd", "sft")
    words("misspelt-value", *run, "--method", "stf")
    words("sets", *run, "--set", "=", "--set", "a", "--set", "a-b=1", "--set", "seed=\"7\"", "--set", "x\x1b[31m=1")
    words("set-value-escape", *run, "--set", "method=\x1b[31m")
    words("score", "score", "--model", "m", "--input", "-", "--scale", "-1..1", "--chains", "18446744073709551616")
    words("score-date", "score", "--model", "m", "--input", "a.jsonl", "--date", "2026-02-30")
    words("agree", "agree", "a.csv", "--human", "h", "--judge", "j", "--scale", "bad,ok,good=0,1,2", "--cluster", "c")
    words("eval", "eval", "a.jsonl", "--report", "r.html")
    words("data", "data", "check", "a.json", "--against", "b.json")
    words("export", "export", "judge", "--out", "s", "--weights", "q8")
    words("serve", "serve", "--port", "70000")
    words("compare", "compare", "--config", "p.toml", "--jobs", "-1")
    words("plan", "train", "--dry-run", "--model", "c.json", "--any-gpu", "--memory", "24GiB")
    words("memory", "train", "--dry-run", "--model", "c.json", "--memory", "99999999999999999999TiB")
    words("kernels", "doctor", "--kernels", "auto,nothing")
    words("double-dash", "--", "train")
    words("nothing", "")
    words("nul", "train", "--model", "a\0b")
    words("long", "train", "--" + "a" * 1500)
    words("equals", "train", "--=1", "--model=", "-=")
    words("escape", "\x1b[31m", "--\x1b]0;x\x07")


def settings():
    base = 'model_name_or_path = "m"\ntrain_file = "t.jsonl"\noutput_dir = "o"\n'
    cases = {
        "plain": base, "many": base + 'method = "real"\nlearning_rate = 1e-5\nscale = "0..4=0..1"\nnum_generations = 8\nlora_r = 16\nresume_from_checkpoint = true\nseed = 7\n',
        "unknown": base + "learning_rat = 1\n", "type": base + "seed = \"x\"\n", "float-for-whole": base + "seed = 1.5\n", "negative": base + "seed = -1\n", "nan": base + "learning_rate = nan\n", "infinite": base + "learning_rate = inf\n", "large": base + "seed = 9223372036854775807\n",
        "steps-large": base + "max_steps = 9223372036854775807\nsave_steps = 9223372036854775807\n", "table": base + "[scale]\na = 1\n", "list": base + "scale = [1, 2]\n", "date": base + "scale = 1979-05-27T07:32:00Z\n", "date-bad": base + "scale = 1979-02-30\n",
        "twice": base + "seed = 1\nseed = 2\n", "dotted": base + "a.b.c = 1\n", "inline": base + "a = {b = {c = 1}}\n", "multiline": base + 'phrase = """\nScore: """\n', "literal": base + "phrase = '\\u001b'\n", "escape": base + 'phrase = "\\u001b[31m"\nmethod = "\\u001b[31m"\n',
        "escape-key": '"\\u001b[31m" = 1\n', "open": "a = ", "open-text": 'a = "b', "open-table": "[a", "surrogate": 'a = "\\ud800"', "comment": "# nothing\n", "nothing": "", "mark": "\ufeff" + base, "returns": base.replace("\n", "\r"), "returns-breaks": base.replace("\n", "\r\n"),
        "bad-scale": base + 'scale = "5"\n', "infinite-scale": base + 'scale = "a,b=-1e308,1e308"\nmethod = "raft"\n', "conflict": base + 'init = "c.json"\n', "tract": base + 'method = "tract"\nchains_from = "x"\n', "long-value": base + 'method = "' + "a" * 1500 + '"\n', "long-key": "a" * 1500 + " = 1\n",
        "protocol": 'seeds = [1]\ndata_seed = 1\n[sizes]\ntrain = 1\nvalidation = 1\ntest = 1\n[tuning]\ntask = "E"\nseed = 1\n[imitation]\nmax_steps = 1\n[policy]\n[[method]]\nname = "sft"\ntitle = "SFT"\nlearning_rates = [0.1]\n[method.settings]\nmethod = "sft"\n[[group]]\nname = "g"\ntitle = "G"\ntasks = ["E"]\nmethods = ["sft"]\nchampion = "sft"\n',
        "protocol-empty": "seeds = []\n[[method]]\n", "judge": json.dumps({"format": 1, "scale": "0..4=0,0.25,0.5,0.75,1", "phrase": "x", "template": "own", "template_source": "{{ a }}", "chat": True, "chain": True, "max_completion_length": 8, "score_reads": "chain"}),
        "judge-scale": json.dumps({"format": 1, "scale": "a,b=1e308,-1e308", "phrase": "", "template": "plain", "chat": False, "chain": False, "max_completion_length": 18446744073709551615}), "judge-number": '{"format": 1, "scale": 5}',
        "scale-1": "1..5", "scale-2": "0..100:10", "scale-3": "0,1,2,3,4=0,0.25,0.5,0.75,1", "scale-4": "bad,fair,good=0,1,2", "scale-5": "-1..1", "scale-6": "5..1", "scale-7": "0..4=1..0", "scale-8": "a,a", "scale-9": "1..1000000000", "scale-10": "0..10:0", "scale-11": "0.5..2.5:0.5", "scale-12": "-9223372036854775808..9223372036854775807",
        "scale-13": "a,b=-1.7976931348623157e308,1.7976931348623157e308", "scale-14": "a,b=0,5e-324", "scale-15": "1,01,1.0", "scale-16": "=,=", "scale-17": "..", "scale-18": "0..9223372036854775807:9223372036854775807", "scale-19": "a..c", "scale-20": "a,b=nan,1",
    }
    for name, text in cases.items():
        seed("settings", name, text)
    seed("settings", "no-utf8", b"a = \"\xff\"")


def requests():
    chat = lambda **more: {"model": "judge", "messages": [{"role": "user", "content": "so 1"}], **more}
    schema = lambda properties, required: {"type": "object", "properties": properties, "required": required}
    strict = lambda s: chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": s}})
    text, number = {"type": "string"}, {"type": "number"}
    recursive = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    deep = number
    for _ in range(30):
        deep = schema({"a": deep}, ["a"])
    cases = {
        "chat": chat(), "sampled": chat(n=3, temperature=1, top_p=0.9, top_k=4, seed=-1), "streamed": chat(stream=True, stream_options={"include_usage": True}), "logprobs": chat(logprobs=True, top_logprobs=20), "stop": chat(stop=["so", ""], max_tokens=9),
        "profile": chat(model="judge@geval"), "promptfoo": chat(model="words@promptfoo", response_format={"type": "json_object"}), "no-profile": chat(model="judge@@"), "other-model": chat(model="x"),
        "schema": strict(schema({"reasoning": text, "score": number, "ok": {"type": "boolean"}}, ["reasoning", "score", "ok"])), "two-scores": strict(schema({"a": number, "b": number}, ["a", "b"])), "recursive": strict(recursive), "deep": strict(deep),
        "enum": strict(schema({"a": {"enum": [1, "2", None, 1.5]}}, ["a"])), "words": strict(schema({"a": {"enum": ["no", "yes"]}}, ["a"])), "any": strict(schema({"a": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 10}]}}, ["a"])), "const": strict(schema({"a": {"const": {"b": [1]}}, "c": number}, ["a", "c"])),
        "range": strict(schema({"a": {"type": "number", "minimum": -1e308, "maximum": 1e308}}, ["a"])), "range-integer": strict(schema({"a": {"type": "integer", "minimum": -1e308, "maximum": 1e308}}, ["a"])), "quoted": strict(schema({'"\\\n': number, "b": dict(text, maxLength=3)}, ['"\\\n', "b"])), "refs": strict({"$defs": {"a/b": number}, "type": "object", "properties": {"x": {"$ref": "#/$defs/a~1b"}}, "required": ["x"]}),
        "tool": chat(tools=[{"type": "function", "function": {"name": "f", "parameters": schema({"score": number}, ["score"])}}], tool_choice="required"), "tools-shown": chat(tools=[{"type": "function", "function": {"name": "f"}}]), "metadata": chat(metadata={"rubric": "so", "response": "1"}), "metadata-half": chat(metadata={"rubric": "so"}),
        "parts": {"messages": [{"role": "developer", "content": [{"type": "text", "text": "so"}]}, {"role": "user", "content": "1"}]}, "image": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "assistant": {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}, "refused": chat(logit_bias={"1": 2}),
        "prompt": {"prompt": "so 1", "logprobs": 5}, "prompts": {"prompt": ["so", "1"]}, "tokens": {"prompt": [1, 2]}, "token-lists": {"prompt": [[1], [2]]}, "token-large": {"prompt": [4294967295]}, "echo": {"prompt": "so", "echo": True},
        "row": {"rubric": "so", "response": "1"}, "rows": {"rows": [{"rubric": "so", "response": "1"}, {"a": 1}], "chains": 2, "seed": 7}, "list": [{"rubric": "so", "response": "1"}, 3], "lines": '{"rubric": "so", "response": "1"}\n{"rubric": "1"}\n', "given": {"row": {"rubric": "so", "response": "1", "chain": "so"}, "given_chains": True},
        "nothing": "", "null": "null", "number": "1e999", "open": '{"messages": [', "escape": '{"model": "\\u001b[31m", "messages": []}', "surrogate": '{"model": "\\ud800"}',
    }
    for name, value in cases.items():
        seed("requests", name, value)
    seed("requests", "no-utf8", b'{"model": "\xff"}')


for make in (tokenizers, templates, configs, models, ggufs, bundles, adapters, data, trainers, arguments, settings, requests):
    make()
total = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
print(f"{len(total)} seeds, {sum(total)} bytes")
