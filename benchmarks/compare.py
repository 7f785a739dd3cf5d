"""The comparison of the FLDA paper on held-out cells: which method has axes that carry one effect and no other.

    FLDA_DATA_DIR=... python benchmarks/compare.py [--quick]

Every method is fitted to the training cells of the same five folds, on the 1,000 genes that vary most in them. All
numbers are measured on the held-out cells, for the first axis of every effect. The axes of PCA, LDA, CCA and PLS belong
to no effect; they are assigned to effects by training SNR, one axis per effect, by the Hungarian algorithm.

* FLDA, sparse FLDA: this package with default settings, 20 genes per axis. FLDA x 10 has a penalty of 10.
* PCA: as many components as FLDA has axes. LDA: scikit-learn, one class per group, shrinkage "auto". 2LDA: one such LDA
  per factor, which has no axes for interactions.
* CCA, PLS: scikit-learn, expression (CCA: 50 principal components) against the coded effects.
* dPCA: demixed PCA of single cells, implemented from the paper (Kobak et al., eLife 5:e10989, 2016, eqs. 1-3 and the
  ridge of the decoder) with the least-squares effects of this package as marginalisations, since the published package
  does not accept empty groups. The ridge is chosen among seven by held-out reconstruction in an inner fold.
* lasso: sparse optimal scoring (Clemmensen et al., Technometrics 53:406, 2011, without the ridge), by scikit-learn's
  MultiTaskLasso of the coded effect with the penalty that selects about 20 genes.

``snr``, ``crosstalk``: flda.metrics.effect_snr. ``ev``, ``mi``: share of the variance of the axis that belongs to its
effect, and bits about it. ``modularity`` is over all effects, interactions included. ``mig``: mutual information gap
over all axes of a method, where the axes of an effect count as one. ``accuracy``: balanced accuracy of the levels of
the factors, predicted by shrunken LDA on all axes.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.optimize import linear_sum_assignment
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import MultiTaskLasso
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from flda import FLDA, SparseFLDA
from flda._design.design import Design, make_design
from flda._design.splits import Split, folds
from flda.metrics import effect_snr, explained_variance, modularity, mutual_information, mutual_information_gap

from problems import PROBLEMS

OUT = Path(__file__).parent / "results"
DATA = ("t4t5", "rnamix", "pbmc68k")
N_GENES = 1000
METHODS = ["FLDA", "FLDA x 10", "sparse FLDA", "PCA", "LDA", "2LDA", "CCA", "PLS", "dPCA", "lasso"]
VALUES = ["snr", "crosstalk", "ev", "mi", "modularity"]


def coding(design: Design) -> np.ndarray:
    """Sum-to-zero coding of all effects, one row per cell."""
    return np.hstack([design.table.coding(e) for e in design.contrasts])[design.codes]


def demixed(X: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    """dPCA decoders, p x df for each effect: reduced-rank ridge regression of a marginalisation on the data."""
    order = np.random.default_rng(0).permutation(len(X))
    inner, outer = order[: len(X) // 5], order[len(X) // 5 :]

    def parts(cells: np.ndarray, ridge: float):
        centre = X[cells].mean(axis=0)
        centred = X[cells] - centre
        part = design.subset(cells)
        if part is None:
            return None
        means = np.stack([centred[part.codes == c].mean(axis=0) for c in range(part.n_groups)])
        gram = centred.T @ centred
        gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
        inverse = np.linalg.inv(gram)
        out = {}
        for e in part.contrasts:
            target = (part.fitted(e) @ means)[part.codes]
            A = inverse @ (centred.T @ target)  # target is approximated by centred @ A
            F = np.linalg.svd(centred @ A, full_matrices=False)[2][: part.df(e)]
            out[e] = A @ F.T, F
        return centre, out

    best, chosen = np.inf, 0.1
    for ridge in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0):
        found = parts(np.sort(outer), ridge)
        whole = design.subset(np.sort(inner))
        if found is None or whole is None:
            continue
        centre, decoders = found
        test = X[np.sort(inner)] - centre
        means = np.stack([test[whole.codes == c].mean(axis=0) for c in range(whole.n_groups)])
        loss = sum(
            np.sum(((whole.fitted(e) @ means)[whole.codes] - test @ D @ F) ** 2) for e, (D, F) in decoders.items()
        )
        if loss < best:
            best, chosen = loss, ridge
    return {e.name: D for e, (D, _) in parts(np.arange(len(X)), chosen)[1].items() if e in design.effects}


def lasso(X: np.ndarray, design: Design, n_genes: int = 20) -> dict[str, np.ndarray]:
    """Axes of sparse optimal scoring: penalised regression of the coded effect on about n_genes genes."""
    scaler = StandardScaler().fit(X)
    Z, out = scaler.transform(X), {}
    for e in design.effects:
        Y = design.table.coding(e)[design.codes]
        Y = Y - Y.mean(axis=0)
        alpha = np.linalg.norm(Z.T @ Y, axis=1).max() / len(Z)
        model, best = MultiTaskLasso(warm_start=True, tol=1e-3), None
        while True:
            alpha *= 0.93
            coefficients = model.set_params(alpha=alpha).fit(Z, Y).coef_
            n = np.count_nonzero(np.any(coefficients != 0, axis=0))
            if n and (best is None or abs(n - n_genes) <= abs(best[0] - n_genes)):
                best = n, coefficients
            if n >= n_genes:
                break
        axes = np.linalg.svd(best[1], full_matrices=False)[2][: design.df(e)]
        out[e.name] = (axes / scaler.scale_).T
    return out


def lda(X: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(X, labels)
    return model.scalings_[:, :n]


def axes_of(method: str, X: np.ndarray, y: pd.DataFrame, design: Design, interactions):
    """Axes of a method: a dictionary by effect, or one matrix if its axes belong to no effect."""
    n = sum(design.df(e) for e in design.effects)
    if "FLDA" in method:
        options = {"interactions": interactions, "random_state": 0, "penalty": 10 if method == "FLDA x 10" else 1}
        model = (SparseFLDA if method == "sparse FLDA" else FLDA)(**options).fit(X, y)
        return {e: model.components_[(model.axes_["effect"] == e).to_numpy()].T for e in model.axes_["effect"].unique()}
    if method == "dPCA":
        return demixed(X, design)
    if method == "lasso":
        return lasso(X, design)
    if method == "2LDA":
        return {f: lda(X, y[f].to_numpy().astype(str), design.df((f,))) for f in y}
    if method == "LDA":
        return lda(X, design.codes, n)
    if method == "PCA":
        return PCA(n, random_state=0).fit(X).components_.T
    if method == "PLS":
        return PLSRegression(min(n, coding(design).shape[1])).fit(X, coding(design)).x_rotations_
    pca = PCA(50, random_state=0).fit(X)
    n = min(n, coding(design).shape[1])
    return pca.components_.T @ CCA(n, max_iter=2000).fit(pca.transform(X), coding(design)).x_rotations_


def assigned(axes: np.ndarray, X: np.ndarray, design: Design) -> dict[str, np.ndarray]:
    """Assign axes to effects so that each effect has the axis that carries it best in training."""
    snr = pd.DataFrame(effect_snr(X @ axes, design))
    names = [e.name for e in design.effects]
    own = snr[names].clip(lower=0)
    value = np.log1p(own) - np.log1p(own.rsub(own.sum(axis=1), axis=0))
    rows, columns = linear_sum_assignment(-value.to_numpy())
    rest = [j for j in range(axes.shape[1]) if j not in rows]
    out = {names[c]: axes[:, [r]] for r, c in zip(rows, columns, strict=True)}
    # further axes are added to the effect that they carry best
    for j in rest:
        name = names[int(value.iloc[j].to_numpy().argmax())]
        out[name] = np.column_stack([out[name], axes[:, j]]) if name in out else axes[:, [j]]
    return out


def compare(name: str, number: int, split: Split, methods) -> list[dict]:
    """All methods on one split: one row per method and effect."""
    X, y, interactions = PROBLEMS[name]()
    train, test, design, held_out = split.train, split.test, split.training, split.held_out
    if design is None or held_out is None:
        return []
    dense = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    genes = np.sort(np.argsort(-dense[train].var(axis=0), kind="stable")[:N_GENES])
    A, B = dense[train][:, genes].astype(float), dense[test][:, genes].astype(float)
    y_train, y_test = y.iloc[train].reset_index(drop=True), y.iloc[test].reset_index(drop=True)
    rows = []
    for method in methods:
        start = time.perf_counter()
        found = axes_of(method, A, y_train, design, interactions)
        seconds = time.perf_counter() - start
        found = assigned(found, A, design) if isinstance(found, np.ndarray) else found
        U = np.column_stack(list(found.values()))
        of = dict(enumerate(np.repeat(list(found), [u.shape[1] for u in found.values()])))
        centre = A.mean(axis=0)
        train_scores, scores = (A - centre) @ U, (B - centre) @ U
        information = mutual_information(scores, held_out)
        together = {"mig": mutual_information_gap(information, held_out, of), "seconds": seconds}
        accuracy = [
            balanced_accuracy_score(
                y_test[f].astype(str),
                LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
                .fit(train_scores, y_train[f].astype(str))
                .predict(scores),
            )
            for f in y
        ]
        together["accuracy"] = np.mean(accuracy)
        snr, ev = pd.DataFrame(effect_snr(scores, held_out)), explained_variance(scores, held_out)
        modular = modularity(information)
        for e in found:
            j = next(i for i, effect in of.items() if effect == e)
            line = [snr[e][j], snr.iloc[j].sum() - snr[e][j], ev.loc[e, j], information.loc[e, j], modular[j]]
            rows.append(
                {"data": name, "method": method, "effect": e, "split": number, **dict(zip(VALUES, line, strict=True))}
                | together
            )
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over folds, and the ratio of mean cross-talk to mean SNR."""
    table = rows.groupby(["data", "method", "effect"], sort=False).mean().drop(columns="split").reset_index()
    table["crosstalk / snr"] = table["crosstalk"] / table["snr"].where(table["snr"] > 0)
    return table


def show(table: pd.DataFrame) -> None:
    """Print Markdown tables, one per data set, with one row per method and the effects side by side."""
    for name, part in table.groupby("data", sort=False):
        effects = list(dict.fromkeys(part["effect"]))
        print(f"\n**{name}**\n")
        heads = [f"{e}: SNR, cross-talk, EV, MI, modularity" for e in effects]
        print("| method | " + " | ".join([*heads, "MIG", "accuracy", "seconds"]) + " |")
        print("|---" * (len(heads) + 4) + "|")
        for method, lines in part.groupby("method", sort=False):
            of = lines.set_index("effect")
            cells = [
                "{:.3g}, {:.2g}, {:.2f}, {:.2f}, {:.2f}".format(*of.loc[e, VALUES]) if e in of.index else "-"
                for e in effects
            ]
            first = lines.iloc[0]
            print(
                f"| {method} | "
                + " | ".join([*cells, f"{first['mig']:.2f}", f"{first['accuracy']:.3f}", f"{first['seconds']:.2g}"])
                + " |"
            )


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw cross-talk / SNR against SNR, one panel per effect."""
    panels = table[["data", "effect"]].drop_duplicates().to_numpy()
    n = -(-len(panels) // 2)
    figure, axes = plt.subplots(2, n, figsize=(3.1 * n, 6.4), squeeze=False)
    palette, markers = sns.color_palette("colorblind", len(METHODS)), "oh*s^vDPXp"
    for ax, (name, effect) in zip(axes.flat, panels, strict=False):
        part = table[(table["data"] == name) & (table["effect"] == effect)]
        for method, colour, marker in zip(METHODS, palette, markers, strict=True):
            for row in part[part["method"] == method].itertuples():
                ax.scatter(
                    max(row.snr, 0.01), np.clip(row.crosstalk / max(row.snr, 1e-3), 1e-3, 1e2), s=70, color=colour,
                    marker=marker, edgecolor="black", linewidth=0.5, label=method,
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", ylim=(7e-4, 4), title=f"{name}: {effect}")
        ax.axhline(1, color="0.7", lw=0.8, zorder=0)
        low, high = ax.get_xlim()
        ax.set_xlim(low / 1.15, high * 1.15)
        few = high / low > 30
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    figure.supxlabel("held-out SNR of the effect (log; better to the right)", fontsize=10, y=0.075)
    figure.supylabel("held-out cross-talk / SNR (log, drawn at 0.001 if lower; better below)", fontsize=10)
    sns.despine(figure)
    handles = {h: a for ax in axes.flat for a, h in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.tight_layout(rect=(0.01, 0.09, 1, 1))
    figure.legend([handles[m] for m in METHODS if m in handles], [m for m in METHODS if m in handles],
                  loc="lower center", ncols=10, frameon=False, columnspacing=1.2, handletextpad=0.1)  # fmt: skip
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two folds of pbmc68k")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Only one sample available")  # groups of one cell in LDA
    rows = []
    for name in ("pbmc68k",) if args.quick else DATA:
        _, y, interactions = PROBLEMS[name]()
        design = make_design(y, interactions=interactions)
        for number, split in enumerate(folds(design, None, 0, 5)):
            if args.quick and number > 1:
                break
            rows += compare(name, number, split, METHODS)
        print(name, "done", flush=True)
    table = summary(pd.DataFrame(rows))
    OUT.mkdir(exist_ok=True)
    table.to_csv(OUT / "compare.csv", index=False, float_format="%.4g", lineterminator="\n")
    show(table)
    draw(table, OUT / "compare.png")


if __name__ == "__main__":
    main()
