"""The linear probe: how well one linear map separates classes in a model's frozen embeddings.

Multinomial logistic regression with an L2 penalty (Radford et al. 2021, appendix A.3), by L-BFGS in
float64. The strength of the penalty is chosen inside the training part, never on what is scored.
Shapes: N items, E embedding, C classes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.evaluate.embed import embed_images
from trainer.evaluate.intervals import wilson
from trainer.models.clip import CLIP

STRENGTHS = tuple(10.0**exponent for exponent in range(1, -6, -1))
"""What is tried, strongest first: each fit starts from the one before."""
FOLDS = 5
GRADIENT = 1e-7
"""A fit ends when no component of the gradient is larger."""


@dataclass(frozen=True)
class LinearProbe:
    """A linear map from embeddings to the logits of classes, float64."""

    weight_CE: Tensor
    bias_C: Tensor

    def predict(self, features_NE: Tensor) -> Tensor:
        """The likeliest class of each row, int64 (N,)."""
        return (features_NE.double() @ self.weight_CE.T + self.bias_C).argmax(dim=1)


@dataclass(frozen=True)
class Score:
    """What a probe got right on items that it was not fitted on."""

    correct_N: Tensor
    """bool; two models on the same items are compared pair by pair."""
    strengths: tuple[float, ...]
    """The penalty that was chosen in each fold."""

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.correct_N.double().mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (Wilson)."""
        return wilson(int(self.correct_N.sum()), len(self.correct_N))


def probe(
    model: CLIP,
    encoded: Iterable[bytes],
    labels_N: Tensor,
    *,
    batch_size: int = 256,
    device: str = "cpu",
    seed: int = 0,
) -> Score:
    """Embed images (encoded files) and cross-validate; one that does not decode is wrong.

    Features are the projected unit embeddings, those of zero-shot classification.
    """
    image_NE, decoded_N = embed_images(model, encoded, batch_size, torch.device(device))
    score = cross_validate(image_NE[decoded_N], labels_N[decoded_N], seed=seed)
    correct_N = torch.zeros_like(decoded_N)
    correct_N[decoded_N] = score.correct_N
    return Score(correct_N, score.strengths)


def cross_validate(features_NE: Tensor, labels_N: Tensor, *, seed: int = 0) -> Score:
    """Each item is judged by a probe that was fitted on the four fifths it does not belong to.

    Columns are brought to mean 0 and deviation 1 over the fifths that are fitted on, so that one
    range of strengths serves embeddings that lie close together and ones that do not.
    """
    fold_N = stratified_folds(labels_N, seed)
    correct_N = torch.zeros(len(labels_N), dtype=torch.bool)
    strengths = []
    for fold in range(FOLDS):
        held_N = fold_N == fold
        rows_NE = _standardised(features_NE, ~held_N)
        features, labels = rows_NE[~held_N], labels_N[~held_N]
        strength = choose_strength(features, labels, seed=seed)
        fitted = fit(features, labels, strength)
        correct_N[held_N] = fitted.predict(rows_NE[held_N]) == labels_N[held_N]
        strengths.append(strength)
    return Score(correct_N, tuple(strengths))


def choose_strength(features_NE: Tensor, labels_N: Tensor, *, seed: int = 0) -> float:
    """The strength that gets most of a held-out fifth right; the stronger one of equals."""
    held_N = stratified_folds(labels_N, seed + 1) == 0
    best, most, fitted = STRENGTHS[0], -1, None
    for strength in STRENGTHS:
        fitted = fit(features_NE[~held_N], labels_N[~held_N], strength, start=fitted)
        right = int((fitted.predict(features_NE[held_N]) == labels_N[held_N]).sum())
        if right > most:
            best, most = strength, right
    return best


def fit(
    features_NE: Tensor, labels_N: Tensor, strength: float, *, start: LinearProbe | None = None
) -> LinearProbe:
    """Minimise mean cross-entropy + strength / 2 * |W|^2; the bias is free.

    Labels are int64 from 0. scikit-learn's LogisticRegression has C = 1 / (strength * N).
    """
    # The bias takes up any shift of the features, so centred ones have the same minimum; embeddings
    # that share a direction would make the problem ill-conditioned.
    mean_E = features_NE.double().mean(dim=0)
    centred_NE = features_NE.double() - mean_E
    classes = int(labels_N.max()) + 1
    weight_CE, bias_C = centred_NE.new_zeros(classes, len(mean_E)), centred_NE.new_zeros(classes)
    if start is not None:
        weight_CE.copy_(start.weight_CE)
        bias_C.copy_(start.bias_C + start.weight_CE @ mean_E)
    _minimise(weight_CE, bias_C, centred_NE, labels_N, strength)
    return LinearProbe(weight_CE, bias_C - weight_CE @ mean_E)


def _minimise(
    weight_CE: Tensor, bias_C: Tensor, features_NE: Tensor, labels_N: Tensor, strength: float
) -> None:
    """Move weight and bias, in place, to the minimum."""
    parameters = [weight_CE.requires_grad_(), bias_C.requires_grad_()]
    optimizer: torch.optim.Optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=1000,
        history_size=20,
        tolerance_grad=GRADIENT,
        tolerance_change=math.ulp(1.0),
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        logits_NC = features_NE @ weight_CE.T + bias_C
        loss = F.cross_entropy(logits_NC, labels_N) + strength / 2 * weight_CE.square().sum()
        torch.autograd.backward(loss)
        return loss.item()

    optimizer.step(closure)
    for parameter in parameters:
        parameter.requires_grad_(False)


def _standardised(features_NE: Tensor, known_N: Tensor) -> Tensor:
    """All rows, with mean and deviation of the known ones; a constant column is only shifted."""
    rows_NE = features_NE.double()
    mean_E, deviation_E = rows_NE[known_N].mean(dim=0), rows_NE[known_N].std(dim=0, correction=0)
    return (rows_NE - mean_E) / torch.where(deviation_E > 0, deviation_E, 1.0)


def stratified_folds(labels_N: Tensor, seed: int) -> Tensor:
    """A fold, 0 to 4, for each item, int64 (N,); each class is spread evenly over all folds."""
    shuffled = np.random.default_rng(seed).permutation(len(labels_N))
    by_class = shuffled[np.argsort(labels_N.numpy()[shuffled], kind="stable")]
    fold_N = np.empty(len(labels_N), np.int64)
    fold_N[by_class] = np.arange(len(labels_N)) % FOLDS
    return torch.from_numpy(fold_N)
