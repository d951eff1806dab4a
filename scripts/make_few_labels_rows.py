#!/usr/bin/env python3
"""Writes docs/owner.jsonl, the rows of the tour in docs/owner.md, from rows of the demo.

    target/release/jurist demo --quick --seed 7 --output-dir demo      # Ctrl-C once it trains: the rows are written first
    scripts/make_few_labels_rows.py demo/quick-seed7/data/validation.jsonl > docs/owner.jsonl

300 rows in the language of web/judge. 100 of them, drawn at random, keep people's score (the mean of three simulated annotators).
`kind` says whether the rubric has a major criterion. Python's standard library only.
"""
import json
import random
import re
import sys

ROWS, LABELLED = 300, 100

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:ROWS]
    labelled = set(random.Random(25).sample(range(ROWS), LABELLED))
    for n, row in enumerate(rows):
        rubric, response = re.fullmatch(r"rubric (.*) response (.*) judge", row["prompt"]).groups()
        kind = "major" if "major" in rubric else "minor"
        shown = {"id": n, "kind": kind, "rubric": rubric, "response": response}
        if n in labelled:
            shown["score"] = round(row["score"], 2)
        print(json.dumps(shown))
