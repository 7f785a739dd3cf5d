"""Spectra of urine to which known amounts of two substances were added."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from ._files import fetch

# where the signals of the two substances lie, in ppm
REGIONS = {"hippurate": ((7.458, 7.935), (3.881, 4.041)), "citrate": ((2.509, 2.709),)}


def uch(data_dir: str | os.PathLike | None = None) -> AnnData:
    """Load NMR spectra of urine with added hippurate and citrate: 3 doses x 3 doses x 2 times (Thiel et al. 2017).

    The two substances were added to samples of one pool of rat urine. The samples were measured at two times after
    they had been thawed, on two days. There are 34 spectra x 600 bins, as two of 36 spectra are missing: the 18 groups
    of hippurate x citrate x time have two spectra each, except for two groups with one. Where the signals of the two
    substances lie is known without statistics.

    ``X`` has the spectra as they are in the source. They are intensities in arbitrary units, and every spectrum was
    normalised to a sum of 600, which is a mean of 1 per bin. Because of the fixed sum, more of one substance means less
    of all others. The intensities are not counts, and no logarithm was taken: 12 of them are slightly negative (down to
    -0.0041). 97 bins are zero in all spectra: 95 between 4.5 and 6.04 ppm, where water and urea have their signals, and
    the two ends of the region of citrate. The source replaced the signals of citrate by a triangle: the 11 bins within
    that region are proportional to each other, so they carry one and the same number per spectrum.

    Parameters
    ----------
    data_dir
        As in :func:`rnamix`.

    Returns
    -------
    AnnData with the intensities in ``X``, and

    * ``obs["hippurate"]``, ``obs["citrate"]``: the doses as ordered categories, 0, 1, 2 and 0, 2, 4. The source states
      no unit.
    * ``obs["hippurate_dose"]``, ``obs["citrate_dose"]``: the same as numbers
    * ``obs["time"]``: first or second measurement after thawing, 1 or 2
    * ``obs["day"]``: day of the measurement, 2 or 3
    * ``var["ppm"]``: chemical shift of the bin; the names of the variables are the same as text
    * ``var["hippurate"]``, ``var["citrate"]``: whether the bin lies where the substance has its signals: 7.458 to 7.935
      and 3.881 to 4.041 ppm for hippurate, 2.509 to 2.709 ppm for citrate

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As :func:`fetch`.
    ImportError
        If rdata is not installed, which reads the file, or as :func:`fetch`.

    References
    ----------
    Thiel M, Féraud B, Govaerts B. ASCA+ and APCA+: Extensions of ASCA and APCA in the analysis of unbalanced
    multifactorial designs. J. Chemom. 31:e2895 (2017). Data: R package limpca, Artistic-2.0 licence.

    Examples
    --------
    >>> adata = uch()  # doctest: +SKIP
    >>> adata.shape  # doctest: +SKIP
    (34, 600)
    """
    rdata = _rdata()
    content = _read(rdata, fetch("uch", "UCH.RData", data_dir=data_dir))["UCH"]
    design, outcomes = content["design"], content["outcomes"]
    obs = pd.DataFrame(index=pd.Index([str(n) for n in design.index]))
    for name in ("hippurate", "citrate"):
        doses = [str(d) for d in design[name.capitalize()]]
        obs[name] = pd.Categorical(doses, sorted(set(doses), key=float), ordered=True)
        obs[f"{name}_dose"] = [float(d) for d in doses]
    for name in ("time", "day"):
        obs[name] = pd.Categorical([str(d) for d in design[name.capitalize()]])
    rows, bins = ([str(n) for n in outcomes.coords[d].to_numpy()] for d in outcomes.dims)
    X = pd.DataFrame(outcomes.to_numpy(), rows, bins).loc[obs.index].to_numpy(np.float64)
    ppm = np.array(bins, float)
    var = pd.DataFrame({"ppm": ppm}, index=bins)
    for name, regions in REGIONS.items():
        var[name] = np.any([(low <= ppm) & (ppm <= high) for low, high in regions], axis=0)
    return AnnData(X, obs=obs, var=var)


def _rdata():
    try:
        import rdata
    except ImportError:
        raise ImportError("reading the file of uch needs rdata; install it with: pip install 'flda[data]'") from None
    return rdata


def _read(rdata, path: Path) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rdata warns of encodings and classes of R, which make no difference here
        return rdata.read_rda(path)
