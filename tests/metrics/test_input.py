"""The measures take scores, labels and donors in the forms that users have, or say what is wrong in one sentence."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from flda._design.make import make_design
from flda.metrics import effect_snr, explained_variance, mean_products, mutual_information, total_products

N = 48
RNG = np.random.default_rng(0)
LABELS = pd.DataFrame({"site": np.repeat(["in", "out"], N // 2), "drug": np.tile(["a", "b"], N // 2)})
SCORES = RNG.normal(size=(N, 2)) + 2 * (LABELS[["site"]] == "in").to_numpy()
DONOR = np.arange(N) // 4 % 6
DESIGN = make_design(LABELS)
MEASURES = {
    "effect_snr": lambda *data: pd.DataFrame(effect_snr(*data)),
    "explained_variance": explained_variance,
    "mean_products": lambda *data: pd.DataFrame(mean_products(*data)[0][:, :, 0]),
    "mutual_information": lambda scores, design, donor=None: mutual_information(scores, design),
}
FORMS = {
    "labels": (SCORES, LABELS, DONOR),
    "labels as lists": (SCORES.tolist(), LABELS.to_numpy().tolist(), DONOR.tolist()),
    "tables": (pd.DataFrame(SCORES, columns=["u", "v"]), LABELS.astype("category"), pd.Series(DONOR).map("d{}".format)),
    "sparse": (sp.csr_array(SCORES), DESIGN, DONOR),
    "single precision": (SCORES.astype(np.float32), DESIGN, DONOR.astype(str)),
    "big-endian": (SCORES.astype(">f8"), DESIGN, DONOR.astype(object)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("measure", MEASURES)
def test_every_form_gives_the_same(measure, form):
    expected = MEASURES[measure](SCORES, DESIGN, DONOR).to_numpy()
    np.testing.assert_allclose(MEASURES[measure](*FORMS[form]).to_numpy(), expected, rtol=1e-4, atol=1e-5)


WRONG = {
    "NaN": (np.where(SCORES[3, 1] == SCORES, np.nan, SCORES), DESIGN, "row 3"),
    "masked": (np.ma.masked_array(SCORES, SCORES > 1), DESIGN, "masked"),
    "one axis without its dimension": (SCORES[:, 0], DESIGN, "1"),
    "fewer cells": (SCORES[:-1], DESIGN, str(N - 1)),
    "text": (SCORES.astype(str).astype(object) + "x", DESIGN, "numbers"),
    "labels in another order": (pd.DataFrame(SCORES), LABELS[::-1], "order"),
    "missing labels": (SCORES, LABELS.where(LABELS != "a"), "'drug'"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_measured_is_named(kind):
    scores, design, word = WRONG[kind]
    for measure in MEASURES.values():
        with pytest.raises(ValueError, match=word):
            measure(scores, design)


def test_sums_of_samples_take_labels_too():
    sums, squares = np.array([SCORES[DESIGN.codes == c].sum(axis=0) for c in range(4)]), np.full(4, 90.0)
    for one, two in zip(total_products(sums, squares, DESIGN), total_products(sums, squares, LABELS), strict=True):
        np.testing.assert_array_equal(one, two)
