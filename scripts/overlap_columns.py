#!/usr/bin/env python3
"""Writes columns of scores from rows that people scored, with a cheap stand-in for a judge: shared words.

    scripts/overlap_columns.py saf results/real-llm/data > saf.csv        # committed; MIT
    scripts/overlap_columns.py stsb SOURCE/stsb_en.jsonl.gz > stsb.csv    # STS-B as its origin publishes it

The stand-in is no judge. It is the share of distinct words that two texts have in common (of both together), spread over the
scale: of a student's answer and the reference answer for SAF, of the two sentences for STS-B. It correlates with people's
scores and is far too low, so it shows what calibration and estimates do with a biased judge. Columns: people's score, the
stand-in's, and for SAF the question, of which many answers are. Python's standard library only.
"""
import csv
import gzip
import json
import pathlib
import re
import sys


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def overlap(one, other):
    one, other = (set(re.findall(r"[^\W_]+", text.lower())) for text in (one, other))
    return len(one & other) / max(1, len(one | other))


def saf(folder):
    for path in sorted(pathlib.Path(folder).glob("saf-*.jsonl.gz")):
        for row in read(path):
            yield row["score"], overlap(row["response"], row["reference"]), row["question_id"]


def stsb(path):
    for row in read(path):
        yield row["score"], 5 * overlap(row["sentence1"], row["sentence2"]), row["split"]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("saf", "stsb"):
        sys.exit(__doc__)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["people", "words", {"saf": "question", "stsb": "split"}[sys.argv[1]]])
    for people, words, group in {"saf": saf, "stsb": stsb}[sys.argv[1]](sys.argv[2]):
        rows.writerow([people, round(words, 4), group])
