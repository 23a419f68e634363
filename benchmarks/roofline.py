"""The roofline (Williams, Waterman and Patterson 2009): what rows reach beside the limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

from benchmarks.record import Row

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def draw(rows: Sequence[Row], peak: float, bandwidth: float, path: Path) -> None:
    """A PNG with graphc and the best peer of every row that has work and traffic."""
    figure, axes = plt.subplots(figsize=(10, 6.5))
    intensity = np.logspace(-1.0, 3.3, 200)
    axes.loglog(intensity, np.minimum(peak, bandwidth * intensity) / 1e9, color="black")
    drawn = [r for r in rows if r.ours and r.fields["moved"] and r.limit > 1e-6]
    for k, row in enumerate(drawn):
        assert row.ours is not None
        x = row.fields["flops"] / row.fields["moved"]
        ours = row.fields["flops"] / row.ours["median"] / 1e9
        axes.plot(x, ours, "o", color="tab:blue", label="graphc" if k == 0 else None)
        if row.best:
            peer = row.fields["flops"] / row.best[1]["median"] / 1e9
            axes.plot(x, peer, "x", color="tab:orange", label="best peer" if k == 0 else None)
        axes.annotate(str(k + 1), (x, ours), textcoords="offset points", xytext=(5, -9), fontsize=7)
    axes.set_xlabel("flops per byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"{peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s")
    names = "\n".join(f"{k + 1}  {row.name}" for k, row in enumerate(drawn))
    figure.text(0.67, 0.97, names, fontsize=6.5, va="top")
    axes.legend(loc="lower right")
    figure.subplots_adjust(left=0.08, right=0.65, top=0.93, bottom=0.09)
    figure.savefig(path, dpi=110)
    plt.close(figure)
