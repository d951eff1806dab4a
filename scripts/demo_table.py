#!/usr/bin/env python3
"""The table of docs/demo.md: mean over seeds with 95 % t-intervals, from demo/full-seed*/results.json.

    for s in 1 2 3 4 5; do ./target/release/jurist demo --seed $s; done
    python3 scripts/demo_table.py demo
"""
import glob
import json
import math
import sys

T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided, by number of seeds

folder = sys.argv[1] if len(sys.argv) > 1 else "demo"
runs = [json.load(open(path)) for path in sorted(glob.glob(f"{folder}/full-seed*/results.json"))]
seeds = [run["seed"] for run in runs]
print(f"seeds {seeds}\n")


def interval(values):
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return f"{mean:.3f}"
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return f"{mean:.3f} ± {T95[min(n, 5)] * sd / math.sqrt(n):.3f}"


def column(set_name, judge, key):
    sets = [next(s for s in run["sets"] if s["name"] == set_name) for run in runs]
    figures = [next(f for f in s["figures"] if f["name"] == judge) for s in sets]
    return [f[key] for f in figures]


for set_name in ["test", "ood mean"]:
    first = next(s for s in runs[0]["sets"] if s["name"] == set_name)
    print(f"**{set_name}** ({first['rows']} rows a seed)\n")
    print("| | Pearson | Spearman | RMSE | modal share | verdicts right | Pearson minus SFT, by seed |")
    print("|---|---|---|---|---|---|---|")
    for figure in first["figures"]:
        name = figure["name"]
        cells = []
        for key in ["pearson", "spearman", "rmse", "modal_share", "verdicts"]:
            values = column(set_name, name, key)
            cells.append("–" if None in values else interval(values))
        gains = column(set_name, name, "gain_over_sft")
        cells.append("" if None in gains else ", ".join(f"{g['pearson']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]" for g in gains))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()
    if all(column(set_name, "REAL", "pearson")):
        print("REAL minus, paired by seed: " + "; ".join(
            f"{rival} {interval([a - b for a, b in zip(column(set_name, 'REAL', 'pearson'), column(set_name, rival, 'pearson'))])}"
            for rival in ["SFT", "SFT, greedy chain", "SFT, 5 chains averaged", "SFT continued", "reinforce (binary reward)"]))
        print()

# What scripts/terms.sh left, if it was run: each term alone, one sampled chain a row as everywhere above.
JUDGES = {"SFT": "sft", "both terms": "real", "term 1 only": "term1", "term 2 only": "term2", "reinforce": "reinforce"}


def evaluated(judge, sets, key):
    def value(seed, name):
        path = f"{folder}/full-seed{seed}/{judge}/eval-{name}.json"
        return json.load(open(path))["expected score"][key]
    return [sum(value(seed, name) for name in sets) / len(sets) for seed in seeds]


if all(glob.glob(f"{folder}/full-seed{seed}/term2/eval-ood3.json") for seed in seeds):
    print("**each term alone**\n")
    print("| | Pearson, test | RMSE, test | Pearson, ood mean | RMSE, ood mean | both terms minus it, test | ood mean |")
    print("|---|---|---|---|---|---|---|")
    inside, outside = ["test"], ["ood1", "ood2", "ood3"]
    for name, judge in JUDGES.items():
        cells = [interval(evaluated(judge, sets, key)) for sets in (inside, outside) for key in ("pearson", "rmse")]
        for sets in (inside, outside):
            pairs = zip(evaluated("real", sets, "pearson"), evaluated(judge, sets, "pearson"))
            cells.append("" if judge == "real" else interval([a - b for a, b in pairs]))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nThe mean of three sets' figures, where the first tables pool their rows.")
