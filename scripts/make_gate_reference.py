#!/usr/bin/env python3
"""Writes what other programs say of labels, of early stopping and of event files, for the tests.

    pip install scikit-learn krippendorff transformers tensorboard
    python scripts/make_gate_reference.py                   # writes the three files below
    python scripts/make_gate_reference.py --events RUN      # compares the event file of a run with its metrics.jsonl

src/eval/testdata/labels_reference.json          scikit-learn and krippendorff: accuracy, kappas, alphas, precision, recall, F1, ...
src/train/run/testdata/early_stopping.json       transformers: after which evaluation EarlyStoppingCallback stops
src/train/run/testdata/events.tfevents           TensorBoard: three events, written by its own writer
"""
import json
import math
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent


def labels():
    import krippendorff
    import numpy as np
    from sklearn import metrics

    warnings.simplefilter("ignore")
    random = np.random.default_rng(11)

    def case(names, human, judge):
        codes = list(range(len(names)))
        one = len(set(human) | set(judge)) == 1
        expect = {
            "accuracy": metrics.accuracy_score(human, judge),
            "exact_agreement": metrics.accuracy_score(human, judge),
            # Of one class, recall alone is left of these.
            "balanced_accuracy": None if len(set(human)) < 2 else metrics.balanced_accuracy_score(human, judge),
            "f1_macro": metrics.f1_score(human, judge, average="macro", labels=sorted(set(human) | set(judge))),
            "mcc": None if len(set(human)) < 2 or len(set(judge)) < 2 else metrics.matthews_corrcoef(human, judge),
        }
        for name, weights in [("unweighted", None), ("linear", "linear"), ("quadratic", "quadratic")]:
            expect[f"kappa_{name}"] = None if one else metrics.cohen_kappa_score(human, judge, labels=codes, weights=weights)
        for level in ["nominal", "ordinal", "interval"]:
            alpha = None
            if not one:
                alpha = krippendorff.alpha([human, judge], value_domain=codes, level_of_measurement=level)
            expect[f"krippendorff_{level}"] = alpha
        if len(names) == 2:
            # Pairs of rows with different labels, a tie of the judge as one half.
            expect["pairwise_accuracy"] = None if len(set(human)) < 2 else metrics.roc_auc_score(human, judge)
        figures = metrics.precision_recall_fscore_support(human, judge, labels=codes, zero_division=np.nan)
        for code, name in enumerate(names):
            precision, recall, f1, _ = (float(values[code]) for values in figures)
            # scikit-learn's F1 of a label that only one side gives is 0, and of one that nobody gives undefined.
            expect[f"precision({name})"] = None if math.isnan(precision) else precision
            expect[f"recall({name})"] = None if math.isnan(recall) else recall
            given = code in human or code in judge
            expect[f"f1({name})"] = (0.0 if math.isnan(f1) else f1) if given else None
        return {"labels": names, "human": human, "judge": judge, "expect": {k: v if v is None else float(v) for k, v in expect.items()}}

    cases = []
    for names in [["fail", "pass"], ["bad", "ok", "good"], ["a", "b", "c", "d"]]:
        size = len(names)
        for rows, agreement in [(200, 0.8), (60, 0.5), (25, 0.0), (12, 0.9)]:
            human = random.integers(0, size, rows)
            judge = np.where(random.random(rows) < agreement, human, random.integers(0, size, rows))
            cases.append(case(names, human.tolist(), judge.tolist()))
        # A rare label, labels that nobody or only one side gives, one class, a constant judge.
        cases.append(case(names, [0] + [size - 1] * 30, [0] * 3 + [size - 1] * 28))
        cases.append(case(names, [0, size - 1] * 8, [size - 1] * 16))
        cases.append(case(names, [size - 1] * 9, [0, size - 1, size - 1] * 3))
        cases.append(case(names, [1] * 7, [1] * 7))
        cases.append(case(names, [0] * 5, [1] * 5))
    return {"made_with": {"scikit-learn": version("scikit-learn"), "krippendorff": version("krippendorff")}, "cases": cases}


def early_stopping():
    import random
    from types import SimpleNamespace

    from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

    random.seed(5)
    cases = []
    for n in range(120):
        greater = n % 2 == 0
        patience, threshold = random.randint(1, 4), random.choice([0.0, 0.0, 0.01, 0.05])
        # Rounded, so that equal metrics and changes of just the threshold occur.
        values = [round(0.5 + 0.02 * k + random.gauss(0, 0.06), 2) for k in range(20)]
        metrics = values if greater else [-x for x in values]
        callback = EarlyStoppingCallback(early_stopping_patience=patience, early_stopping_threshold=threshold)
        args = SimpleNamespace(greater_is_better=greater, metric_for_best_model="loss")
        state, control = TrainerState(), TrainerControl()
        stopped, counters = None, []
        for k, metric in enumerate(metrics):
            callback.on_evaluate(args, state, control, {"eval_loss": metric})
            counters.append(callback.early_stopping_patience_counter)
            # As Trainer._determine_best_metric does after the callbacks.
            if state.best_metric is None or (metric > state.best_metric if greater else metric < state.best_metric):
                state.best_metric = metric
            if control.should_training_stop:
                stopped = k
                break
        cases.append({
            "greater_is_better": greater, "patience": patience, "threshold": threshold, "metrics": metrics,
            "stopped_after": stopped, "counters": counters, "state": callback.state(),
        })
    assert any(case["stopped_after"] is None for case in cases)
    return {"made_with": {"transformers": version("transformers")}, "cases": cases}


def events():
    from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    def scalars(wall_time, step, values):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values])
        return Event(wall_time=wall_time, step=step, summary=summary)

    all_events = [
        Event(wall_time=1700000000.25, file_version="brain.Event:2", source_metadata=SourceMetadata(writer="jurist.train")),
        scalars(1700000001.5, 1, [("train/epoch", 0.5), ("train/loss", 2.25), ("train/rewards/mean", -0.125)]),
        scalars(1700000002.0, 300, [("eval/loss", 0.0), ("eval/judge/score_mass", 1.0)]),
    ]
    with open(ROOT / "src/train/run/testdata/events.tfevents", "wb") as file:
        writer = RecordWriter(file)
        for event in all_events:
            writer.write(event.SerializeToString())


def check(run):
    """TensorBoard's reader finds each number of metrics.jsonl under its tag and step."""
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(Path(run) / "events.out.tfevents.jurist"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    expected = {}
    for line in map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines()):
        evaluation = any(name.startswith("eval_") for name in line)
        for name, value in line.items():
            if name != "step" and value is not None and (name.startswith("eval_") or not evaluation):
                tag = "eval/" + name[5:] if name.startswith("eval_") else "train/" + name
                expected.setdefault(tag, []).append((line["step"], float(np.float32(value))))
    read = {}
    for tag in found.Tags()["scalars"]:
        read[tag] = [(event.step, float(np.float32(event.value))) for event in found.Scalars(tag)]
    assert read == expected, (read, expected)
    print(f"{run}: {sum(map(len, read.values()))} scalars of {len(read)} tags as in metrics.jsonl, read by TensorBoard {version('tensorboard')}")


def version(package):
    import importlib.metadata

    return importlib.metadata.version(package)


def write(path, value):
    (ROOT / path).write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--events"]:
        for run in sys.argv[2:]:
            check(run)
    else:
        write("src/eval/testdata/labels_reference.json", labels())
        write("src/train/run/testdata/early_stopping.json", early_stopping())
        events()
