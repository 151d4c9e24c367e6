"""Draw docs/strings.svg from docs/strings.json, which benchmarks/bench_strings.py writes.

pip install 'vcpuid[plots]'
python tools/plot_strings.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
FUNCTIONS = ("memcpy", "memset", "strlen", "memcmp")
SETTINGS = {
    "": ("nothing hidden", "#1b9e77", "-"),
    "ERMS": ("ERMS", "#7570b3", ":"),
    "AVX-512": ("AVX-512", "#e6ab02", "-"),
    "AVX-512 AVX2": ("AVX-512, AVX2", "#d95f02", "-"),
    "AVX-512 AVX2 ERMS": ("AVX-512, AVX2, ERMS", "#d95f02", ":"),
}


def main() -> None:
    """Draw one panel a function: time against time with nothing hidden, by size."""
    told = json.loads((DOCS / "strings.json").read_text(encoding="utf-8"))
    times = {(row["hidden"], row["function"], row["size"]): row["ns"] for row in told["rows"]}
    sizes = sorted({row["size"] for row in told["rows"]})
    plt.rcParams |= {"svg.hashsalt": "vcpuid", "svg.fonttype": "none", "font.size": 8}
    figure, panels = plt.subplots(2, 2, figsize=(8, 5), sharex=True, layout="constrained")
    for function, panel in zip(FUNCTIONS, panels.flat, strict=True):
        base = [times["", function, size][0] for size in sizes]
        for hidden, (label, color, style) in SETTINGS.items():
            runs = [times[hidden, function, size] for size in sizes]
            panel.plot(sizes, [run[0] / one for run, one in zip(runs, base, strict=True)], style, color=color, label=label, lw=1.2)
        panel.set_xscale("log", base=2)
        panel.set_title(function, fontsize=9)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3, lw=0.5)
    for panel in panels[1]:
        panel.set_xlabel("bytes")
    for panel in panels[:, 0]:
        panel.set_ylabel("time, nothing hidden = 1")
    lines, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, labels, title="hidden from glibc", loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(DOCS / "strings.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
