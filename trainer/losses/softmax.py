"""CLIP's symmetric cross-entropy over a row block of the matrix of pairs.

A first walk over the tiles gathers the softmax of rows and columns online; a second computes the
tiles again and turns them into gradients.
Shapes: b own pairs, B all pairs, E embedding, r x c a tile, n lines (rows or columns).

A line's cross-entropy is softplus(z), where z is the log-sum-exp of its negatives' logits less its
positive's, and label smoothing e adds e * (positive logit - mean logit). Its gradient is
-sigmoid(z) by the positive's logit and sigmoid(z) * (softmax among the negatives) by the others. So
nothing cancels where pairs are well apart and the loss is small; sums over all logits, positives
included, would lose every digit there.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.losses import kernels
from trainer.losses.tiled import Gradients, LogitGradients, RowBlock
from trainer.parallel.collectives import Group, gathered, largest, summed


@dataclass(frozen=True, slots=True)
class OnlineSoftmax:
    """Statistics of the negatives of n lines, over the tiles that have been visited.

    Sums are kept relative to the best cosine, not as logarithms: near a logit of 100 these would
    cost two more decimals than the cosines have lost already.
    """

    best_n: Tensor
    """Largest cosine."""
    total_n: Tensor
    """Sum of exp(scale * (cosine - best)): at least 1, or 0 before any negative."""
    cosines_n: Tensor
    """Sum of cosines; kept under label smoothing only."""
    counts_n: Tensor
    """Number of negatives; kept under label smoothing only."""

    @classmethod
    def empty(cls, count: int, like: Tensor) -> Self:
        """Before any entry."""
        # The least finite number stands for "no cosine yet": with -inf the first update would
        # compute exp(-inf - -inf) = NaN for a line all of whose entries so far are left out.
        least_n = like.new_full((count,), torch.finfo(like.dtype).min)
        return cls(least_n, *(torch.zeros_like(least_n) for _ in range(3)))

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The four tensors, each (n,), in the order that the kernels take them."""
        return self.best_n, self.total_n, self.cosines_n, self.counts_n

    def slice(self, lines: slice) -> Self:
        """The statistics of some lines, as views: updating them updates these."""
        return type(self)(*(field[lines] for field in self.state))

    def update(self, cosine_nm: Tensor, scale: Tensor, smooth: bool) -> None:
        """Include m more entries of each line; those that are not negatives are -inf."""
        # A better best is a new base for the sum: what is in it shrinks by exp(old - new), so
        # that no exponent is ever positive and nothing overflows at a scale of 100:
        #   best 0.2, total 1  +  cosine 0.3   ->   best 0.3, total 1 * exp(scale * -0.1) + 1
        best_n = torch.maximum(self.best_n, cosine_nm.amax(1))
        self.total_n.mul_(torch.exp(scale * (self.best_n - best_n)))
        self.total_n.add_((cosine_nm - best_n[:, None]).mul_(scale).exp_().sum(1))
        self.best_n.copy_(best_n)
        if smooth:
            left_out_nm = cosine_nm == -torch.inf
            self.cosines_n.add_(cosine_nm.masked_fill(left_out_nm, 0).sum(1))
            self.counts_n.add_(left_out_nm.logical_not_().sum(1))

    def merge(self, scale: Tensor, group: Group) -> Self:
        """Statistics of the same lines over the entries of all processes."""
        best_n = largest(self.best_n.clone(), group)
        total_n = self.total_n * torch.exp(scale * (self.best_n - best_n))
        return type(self)(
            best_n, *summed(torch.stack([total_n, self.cosines_n, self.counts_n]), group)
        )

    def rates(
        self, positive_n: Tensor, weights_n: Tensor, scale: Tensor, smoothing: float
    ) -> "Rates":
        """What turns cosines into gradients by logits, where lines count by `weights_n`."""
        share_n = weights_n / 2
        # Below 1 the total is 0: a line without negatives, whose sigmoid is 0 too. 0 / 0 is NaN.
        rate_n = share_n * self.deficits(positive_n, scale).sigmoid() / self.total_n.clamp(min=1)
        return Rates(self.best_n, rate_n, share_n * smoothing / (self.counts_n + 1))

    def deficits(self, positive_n: Tensor, scale: Tensor) -> Tensor:
        """z of each line: how far the positive's logit is below all negatives' log-sum-exp."""
        return torch.log(self.total_n) + scale * (self.best_n - positive_n)


@dataclass(frozen=True, slots=True)
class Rates:
    """A line's gradient by a negative's logit is rate * exp(scale * (cosine - best)) - flat."""

    best_n: Tensor
    rate_n: Tensor
    flat_n: Tensor
    """All 0 without label smoothing."""

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The three tensors, each (n,), in the order that the kernels take them."""
        return self.best_n, self.rate_n, self.flat_n

    def slice(self, lines: slice) -> Self:
        """The rates of some lines, as views."""
        return type(self)(*(field[lines] for field in self.state))


def clip_share(
    block: RowBlock, scale: Tensor, smoothing: float, graded: bool
) -> tuple[Tensor, Tensor, Gradients | None]:
    """This process's share of the loss, its best negative cosines (b,), and its gradients.

    The weight of a pair is that of its row and its column. An image without negatives has the
    least finite number for its best negative cosine.
    """
    rows, columns = _statistics(block, scale, smoothing > 0)
    columns = columns.merge(scale, block.group)
    positive_b, weights_b = block.positive_b, block.weights_B[block.own]
    losses_b, pull_b = torch.zeros_like(positive_b), torch.zeros_like(positive_b)
    for lines in (rows, columns.slice(block.own)):
        deficit_b, num_b = lines.deficits(positive_b, scale), lines.counts_n
        gap_b = scale * (num_b * positive_b - lines.cosines_n) / (num_b + 1)
        losses_b += F.softplus(deficit_b, threshold=40) + smoothing * gap_b
        pull_b += deficit_b.sigmoid() - smoothing * num_b / (num_b + 1)
    value = (weights_b * losses_b).sum(dtype=torch.float64) / 2
    if not graded:
        return value, rows.best_n, None
    positive_B = gathered(positive_b, block.group)
    by_logits = _logit_gradients(
        block,
        rows.rates(positive_b, weights_b, scale, smoothing),
        columns.rates(positive_B, block.weights_B, scale, smoothing),
        scale,
    )
    return value, rows.best_n, by_logits.gradients(weights_b * pull_b / 2, scale)


def _statistics(
    block: RowBlock, scale: Tensor, smooth: bool
) -> tuple[OnlineSoftmax, OnlineSoftmax]:
    rows = OnlineSoftmax.empty(len(block.image_bE), block.image_bE)
    columns = OnlineSoftmax.empty(len(block.text_BE), block.image_bE)
    for tile in block.tiles():
        cosine_rc = block.cosines(tile)
        some_rows, some_columns = rows.slice(tile.rows), columns.slice(tile.columns)
        if kernels.usable(cosine_rc):
            # The kernel walks along lines, so columns are the lines of the transposed tile: ids
            # change sides, and the positive of column k is its entry k - shift.
            ids, shift = block.tile_ids(tile), tile.shift
            kernels.update(cosine_rc, some_rows.state, ids, shift, scale, smooth)
            turned = [(columns_c, rows_r) for rows_r, columns_c in ids]
            kernels.update(cosine_rc.T, some_columns.state, turned, -shift, scale, smooth)
        else:
            block.leave_out(tile, cosine_rc, -torch.inf)
            some_rows.update(cosine_rc, scale, smooth)
            some_columns.update(cosine_rc.T, scale, smooth)
    return rows, columns


def _logit_gradients(block: RowBlock, rows: Rates, columns: Rates, scale: Tensor) -> LogitGradients:
    by_logits = LogitGradients(block)
    for tile in block.tiles():
        cosine_rc = block.cosines(tile)
        some_rows, some_columns = rows.slice(tile.rows), columns.slice(tile.columns)
        if kernels.usable(cosine_rc):
            state = some_rows.state, some_columns.state
            kernels.logit_gradients(cosine_rc, *state, block.tile_ids(tile), tile.shift, scale)
        else:
            _to_gradients(cosine_rc, some_rows, some_columns, scale)
            block.leave_out(tile, cosine_rc, 0)
        by_logits.add(tile, cosine_rc)
    return by_logits


def _to_gradients(cosine_rc: Tensor, rows: Rates, columns: Rates, scale: Tensor) -> None:
    """Cosines to gradients by their logits, in place: a tile's memory is the walk's peak."""
    by_row_rc = (cosine_rc - rows.best_n[:, None]).mul_(scale).exp_().mul_(rows.rate_n[:, None])
    by_row_rc.sub_(rows.flat_n[:, None])
    cosine_rc.sub_(columns.best_n).mul_(scale).exp_().mul_(columns.rate_n).sub_(columns.flat_n)
    cosine_rc.add_(by_row_rc)
