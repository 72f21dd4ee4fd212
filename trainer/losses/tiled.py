"""The matrix of all pairs as a process sees it: a block of its own rows, walked in tiles.

No more than a tile of the matrix exists at a time. Here it is decided which entries count as
negatives and how much a pair counts; `softmax` and `pairwise` decide what is summed over them.
Shapes: b own pairs of a process, B all pairs, E embedding, r x c a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.parallel.collectives import Group, scattered_sum

Ids = list[tuple[Tensor, Tensor]]
"""For each kind of id those of a tile's rows, int64 (r,), and of its columns, int64 (c,)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a row block: rows are the process's images, columns all processes' texts."""

    rows: slice
    columns: slice
    shift: int
    """Row k's own text is the tile's column k + shift, where there is such a column: the positives
    of a tile are a diagonal, and off the matrix's own diagonal there are none."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """A process's rows of the matrix of pairs, with the pairs' weights and ids."""

    image_bE: Tensor
    text_BE: Tensor
    weights_B: Tensor
    """They sum to 1."""
    ids: tuple[Tensor, ...]
    """Each int64 (B,): two pairs with an id in common are not negatives of each other."""
    first: int
    """Number among all pairs of this process's first."""
    side: int
    """Of a tile, in pairs."""
    group: Group

    @property
    def own(self) -> slice:
        """This process's pairs among all."""
        return slice(self.first, self.first + len(self.image_bE))

    @property
    def positive_b(self) -> Tensor:
        """Cosine of each image and its own text, (b,)."""
        return (self.image_bE * self.text_BE[self.own]).sum(1)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, those of the first rows first."""
        num_rows, num_columns = len(self.image_bE), len(self.text_BE)
        # The order of the tiles is that of the float32 sums over them: another one gives a loss of
        # other bits.
        for row in range(0, num_rows, self.side):
            for column in range(0, num_columns, self.side):
                yield Tile(
                    slice(row, min(row + self.side, num_rows)),
                    slice(column, min(column + self.side, num_columns)),
                    self.first + row - column,
                )

    def cosines(self, tile: Tile) -> Tensor:
        """Cosines of the tile's images and texts, (r, c)."""
        return self.image_bE[tile.rows] @ self.text_BE[tile.columns].T

    def pair_weights(self, tile: Tile) -> Tensor:
        """The mean weight of an entry's two pairs, (r, c)."""
        rows_r = self.weights_B[self.own][tile.rows]
        return (rows_r[:, None] + self.weights_B[tile.columns]).mul_(0.5)

    def tile_ids(self, tile: Tile) -> Ids:
        """The ids of the tile's pairs."""
        return [(ids_B[self.own][tile.rows], ids_B[tile.columns]) for ids_B in self.ids]

    def leave_out(self, tile: Tile, entries_rc: Tensor, value: float) -> Tensor:
        """Write `value` over the entries that are not negatives, in place: positives and hidden.

        -inf drops out of a maximum and of a sum of exponentials; 0 drops out of a sum.
        """
        # Where ids are known they hide a pair from itself already; where not, only this does.
        for rows_r, columns_c in self.tile_ids(tile):
            entries_rc.masked_fill_(rows_r[:, None] == columns_c, value)
        entries_rc.diagonal(tile.shift).fill_(value)
        return entries_rc


@dataclass(slots=True)
class Gradients:
    """A process's gradients: of the whole loss by its rows, of its share by the scalars."""

    image_bE: Tensor
    text_bE: Tensor
    scale: Tensor
    bias: Tensor

    def pull(self, block: RowBlock, pull_b: Tensor) -> None:
        """Add the gradients of `-sum(pull_b * cosines of positives)`."""
        self.image_bE.addcmul_(pull_b[:, None], block.text_BE[block.own], value=-1)
        self.text_bE.addcmul_(pull_b[:, None], block.image_bE, value=-1)


class LogitGradients:
    """Sums the gradients of a loss by its logits over tiles, as gradients by the rows.

    With G the matrix of gradients by logits, images get scale * G V and texts scale * G' U. Both
    are summed tile by tile, so that G never exists; each process adds its share to every text.
    """

    def __init__(self, block: RowBlock) -> None:
        self.block = block
        self.image_bE = torch.zeros_like(block.image_bE)
        self.text_BE = torch.zeros_like(block.text_BE)

    def add(self, tile: Tile, gradient_rc: Tensor) -> None:
        """Include a tile's gradients by its logits, 0 for those of positives."""
        self.image_bE[tile.rows].addmm_(gradient_rc, self.block.text_BE[tile.columns])
        self.text_BE[tile.columns].addmm_(gradient_rc.T, self.block.image_bE[tile.rows])

    def gradients(self, pull_b: Tensor, scale: Tensor) -> Gradients:
        """Gradients once all tiles are in; -`pull_b` are those by the positives' logits."""
        block = self.block
        # sum_ij G_ij <u_i, v_j> = sum_i <u_i, sum_j G_ij v_j>: the scale needs no walk of its own.
        # In float64, since terms of both signs nearly cancel near the optimum.
        by_scale = (self.image_bE * block.image_bE).sum(dtype=torch.float64)
        by_scale -= (pull_b * block.positive_b).sum(dtype=torch.float64)
        text_bE = scattered_sum(self.text_BE, block.group)
        image_bE, text_bE = self.image_bE.mul_(scale), text_bE.mul_(scale)
        gradients = Gradients(image_bE, text_bE, by_scale, torch.zeros_like(by_scale))
        gradients.pull(block, scale * pull_b)
        return gradients
