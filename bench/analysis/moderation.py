"""Moderate the variances of many small samples: draw each towards a common one, as far as the samples agree.

Five repeats leave a standard deviation four degrees of freedom, and a correction for many conditions then asks for six
of its standard errors. Conditions of one run on one device share most of what makes them noisy, so each variance is
drawn towards a common one. How far is estimated from the variances themselves: not at all where they differ by more
than chance. Means stay as they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, fdtrc, polygamma

Floats = NDArray[np.float64]

CAUTION = 2.0
"""Standard errors by which a test takes the variances to differ more than they seem to. Few conditions cannot show that
they are alike, and then little is shared. 0 is Smyth's estimate: its intervals hold as often as they say on the average
over the conditions, and are too narrow for noisy ones, which would raise false alarms."""

ODD_LEVEL = 0.01
"""A variance above the common one that chance gives so rarely belongs to a condition with a noise of its own."""

_NEWTON_STEPS = 50


def moderate(variance: Floats, degrees: Floats, independent: float, caution: float = CAUTION) -> tuple[Floats, Floats]:
    """Draw variances of samples, and their degrees of freedom, towards what the samples have in common.

    With s² of d degrees, and a common s₀² that is worth d₀ of them:

        (d₀ s₀² + d s²) / (d₀ + d), of d₀ + d degrees

    the posterior mean of a variance whose prior is scaled inverse chi-square; a t test that uses it has d₀ + d degrees
    under that model (Smyth 2004, "Linear models and empirical Bayes methods", DOI 10.2202/1544-6115.1027). The model is
    checked, and given up where it does not hold:

    - d₀ comes from the spread of ln s² beyond that of chance, the trigamma function of d/2 (Bartlett and Kendall
      1946): variances that truly differ make it small. It is counted with `caution` standard errors more.
    - d₀ is at most what the other independent samples have in degrees.
    - A sample whose s² / s₀² is above the point that F(d, d₀) exceeds at `ODD_LEVEL` keeps its own variance (as
      Phipson et al. 2016, "Robust hyperparameter estimation", set hypervariable ones apart).

    Args:
        variance: one per sample, at least 0.
        degrees: above 0.
        independent: how many independent samples they amount to, `independent_number`.
        caution: `CAUTION` for a test, 0 for an interval.

    Returns:
        Both as given where fewer than two variances are above 0.
    """
    usable = variance > 0
    if usable.sum() < 2:
        return variance, degrees
    common, seen, certain = _common(variance[usable], degrees[usable], caution)
    mean_degrees = float(degrees[usable].mean())
    worth = max(0.0, min(certain, (independent - 1) * mean_degrees))
    # where variances differ, d₀ is that of the fit; an infinite d₀ counts as that of all the samples
    against = min(seen, float(degrees[usable].sum()))
    odd = fdtrc(degrees, against, variance / common) < ODD_LEVEL
    shared = np.where(odd, 0.0, worth)
    return (shared * common + degrees * variance) / (shared + degrees), shared + degrees


def independent_number(residuals: Floats) -> float:
    """Number of independent samples that samples with shared noise amount to: m / (1 + (m - 1) r²).

    Repeats of one block lie close in time, so what disturbs the device moves all of them. Squares of two normal values
    of correlation r have the correlation r²; the number is that of independent variances whose mean is as sure as the
    mean of these m (moments matched as by Satterthwaite 1946). r is the intraclass correlation within a block,
    (B - W) / (B + (k - 1) W) with the mean squares between and within blocks of k (Fisher 1925), and not below 0.

    Args:
        residuals: samples x blocks; deviations from each sample's mean, nan where there is none.
    """
    there = ~np.isnan(residuals)
    count = there.sum(axis=1)
    squares = np.nansum(residuals**2, axis=1)
    lively = (count > 1) & (squares > 0)
    m = int(lively.sum())
    if m < 2:
        return float(m)
    # on one scale, or the noisiest alone would decide
    scale = np.sqrt(squares[lively] / (count[lively] - 1))
    unit = residuals[lively] / scale[:, np.newaxis]
    in_block = there[lively].sum(axis=0)
    unit, in_block = unit[:, in_block > 0], in_block[in_block > 0]
    total, blocks = int(in_block.sum()), len(in_block)
    between_degrees, within_degrees = blocks - 1, total - m - blocks + 1
    if within_degrees < 1:
        return 1.0  # nothing tells a common disturbance from the samples' own
    between_squares = float((np.nansum(unit, axis=0) ** 2 / in_block).sum())
    between = between_squares / between_degrees
    within = max(0.0, float(np.nansum(unit**2)) - between_squares) / within_degrees
    size = total / blocks
    correlation = (between - within) / (between + (size - 1) * within)
    return m / (1 + (m - 1) * min(max(correlation, 0.0), 1.0) ** 2)


def _common(variance: Floats, degrees: Floats, caution: float) -> tuple[float, float, float]:
    """(s₀², d₀ as estimated, d₀ as certain): moments of ln s² (Smyth 2004).

    Under the model ln s² has the mean ln s₀² + ψ(d/2) - ln(d/2) - ψ(d₀/2) + ln(d₀/2) and the variance
    ψ'(d/2) + ψ'(d₀/2). The sampling variance of the latter is κ₄/m + 2 κ₂²/(m - 1) (Cramér 1946), with
    κ₂ = ψ'(d/2) and κ₄ = ψ'''(d/2).
    """
    m = len(variance)
    half = degrees / 2
    logs = np.log(variance) - digamma(half) + np.log(half)
    chance, fourth = float(polygamma(1, half).mean()), float(polygamma(3, half).mean())
    excess = float(logs.var(ddof=1)) - chance
    error = float(np.sqrt(fourth / m + 2 * chance**2 / (m - 1)))
    seen, certain = (_prior_degrees(value) for value in (excess, excess + caution * error))
    if np.isinf(seen):
        # all alike: the plain pooled variance, which then is the best
        return float(np.average(variance, weights=degrees)), seen, certain
    return float(np.exp(logs.mean() + digamma(seen / 2) - np.log(seen / 2))), seen, certain


def _prior_degrees(excess: float) -> float:
    """d₀ with ψ'(d₀/2) = excess, by Newton's method on 1/ψ' (Smyth 2004); infinite where there is none."""
    if excess <= 0:
        return float("inf")
    half = 0.5 + 1 / excess
    for _ in range(_NEWTON_STEPS):
        value = float(polygamma(1, half))
        step = value * (1 - value / excess) / float(polygamma(2, half))
        half += step
        if -step < 1e-9 * half:
            break
    return 2 * half
