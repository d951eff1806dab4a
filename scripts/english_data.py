#!/usr/bin/env python3
"""Prepares the English data of results/real-llm from their sources, with Python's standard library only.

    scripts/english_data.py SOURCE [--words WHEEL]

SOURCE is a folder with saf_english.jsonl.gz, stsb_en.jsonl.gz, prometheus_vicuna_bench.jsonl.gz and
prometheus_mt_bench.jsonl.gz (one JSON object per line, as their origins publish them). WHEEL is gensim's package from PyPI
(`pip download --no-deps gensim`), whose tests bring WordSim353 and SimLex-999.

Written: results/real-llm/data/saf-*.jsonl.gz (committed: SAF is MIT), target/english/*.jsonl (not committed).
Which rows are taken, and why, is said in results/real-llm/PROTOCOL.md. The same sources give the same bytes.
"""
import gzip
import io
import json
import pathlib
import random
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAF = ROOT / "results/real-llm/data"
OTHER = ROOT / "target/english"

# Characters of question and reference answer, and of these with the student's answer.
LONGEST_PREFIX, LONGEST_ROW = 770, 1000
# Unseen questions are few, so all four are kept; only their answers are limited.
LONGEST_ANSWER = 500


def read(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file:
            file.write(text)
        text = packed.getvalue()
    path.write_bytes(text)
    print(f"{len(rows):5} rows  {len(text):7} bytes  {path.relative_to(ROOT)}")


def shuffled(rows):
    rows = list(rows)
    random.Random(1).shuffle(rows)
    return rows


def spread(rows, key, most):
    """The first `most` rows, taken in turn from each value of `key`."""
    groups = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    turns = max(len(group) for group in groups.values())
    in_turn = [group[n] for n in range(turns) for group in groups.values() if n < len(group)]
    return in_turn[:most]


def saf(source):
    rows = {"train": [], "test_unseen_answers": [], "test_unseen_questions": []}
    for row in read(source / "saf_english.jsonl.gz"):
        question, reference, answer = row["question"], row["reference_answers"][0], row["response"]
        unseen = row["split"] == "test_unseen_questions"
        prefix = len(question) + len(reference)
        fits = len(answer) <= LONGEST_ANSWER if unseen else prefix <= LONGEST_PREFIX and prefix + len(answer) <= LONGEST_ROW
        if fits:
            rows[row["split"]].append({
                "id": row["id"], "question_id": row["question_id"], "instruction": question, "reference": reference,
                "response": answer, "feedback": row["feedback"], "score": row["score"],
                "empty": len(answer) < 20 and ("submission" in answer.lower() or "response" in answer.lower()),
            })
    train = shuffled(rows["train"])
    validation = spread(train, "question_id", 36)
    write(SAF / "saf-validation.jsonl.gz", validation)
    held_out = {row["id"] for row in validation}
    # Three of four answers are fully right. In turn with the others, half are.
    left = [dict(row, full=row["score"] == 1) for row in train if row["id"] not in held_out]
    in_turn = spread(left, "full", 2 * sum(not row["full"] for row in left))
    write(SAF / "saf-train.jsonl.gz", [{key: value for key, value in row.items() if key != "full"} for row in in_turn])
    write(SAF / "saf-unseen-answers.jsonl.gz", spread(shuffled(rows["test_unseen_answers"]), "question_id", 64))
    write(SAF / "saf-unseen-questions.jsonl.gz", spread(shuffled(rows["test_unseen_questions"]), "question_id", 48))


def stsb(source):
    rows = read(source / "stsb_en.jsonl.gz")
    for split, name, most in [("train", "train", 4000), ("dev", "validation", 60), ("test", "test", 150)]:
        chosen = shuffled(row for row in rows if row["split"] == split and len(row["sentence1"]) + len(row["sentence2"]) <= 240)
        write(OTHER / f"stsb-{name}.jsonl", [
            {"id": row["id"], "instruction": row["sentence1"], "response": row["sentence2"], "reference": row["sentence1"],
             "score": round(row["score"], 4)}
            for row in chosen[:most]])


def prometheus(source):
    """Twenty-four of each set, the shortest by question, reference and response; the rubric does not fit the budget."""
    for name in ["vicuna", "mt"]:
        rows = read(source / f"prometheus_{name}_bench.jsonl.gz")
        length = lambda row: len(row["instruction"]) + len(row["response"]) + len(row["reference_answer"])
        write(OTHER / f"prometheus-{name}.jsonl", [
            {"id": f"{name}-{row['id']}-{row['response_source']}", "question_id": row["instruction"][:80],
             "instruction": row["instruction"], "reference": row["reference_answer"], "response": row["response"],
             "score": round((row["score"] - 1) / 4, 4)}
            for row in sorted(rows, key=length)[:24]])


def words(wheel):
    with zipfile.ZipFile(wheel) as package:
        for file, name in [("wordsim353.tsv", "wordsim"), ("simlex999.txt", "simlex")]:
            lines = package.read(f"gensim/test/test_data/{file}").decode().splitlines()
            pairs = [line.split("\t") for line in lines if line and not line.startswith("#")]
            write(OTHER / f"{name}.jsonl", shuffled(
                {"id": f"{one}-{other}", "instruction": one, "response": other, "reference": one, "score": float(score) / 2}
                for one, other, score in pairs)[:100])


def main():
    arguments = sys.argv[1:]
    wheel = None
    if "--words" in arguments:
        at = arguments.index("--words")
        wheel = arguments[at + 1]
        del arguments[at:at + 2]
    if len(arguments) != 1:
        sys.exit(__doc__)
    source = pathlib.Path(arguments[0])
    for make in [saf, stsb, prometheus]:
        make(source)
    if wheel:
        words(wheel)


if __name__ == "__main__":
    main()
