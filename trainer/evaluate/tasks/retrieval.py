"""Image and text retrieval: ranks of the truth by blocked products, never the whole matrix.

An image is found if any of its captions is in the top k, a caption if its image is (the field's
R@k). Ties count against the model. Shapes: N images, M captions, E embedding.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

BLOCK = 1024
TOPS = (1, 5, 10)
LAST = np.iinfo(np.int32).max
"""The rank of what is never found, however few there are."""

Owners = npt.NDArray[np.int64]


def text_ranks(image_NE: Tensor, text_ME: Tensor, owners: Owners) -> tuple[Tensor, Tensor]:
    """For every image, the rank of its best caption among the others' captions, and the margin.

    `owners` (M,) gives each caption's image. Rank 0 is best; margin is a difference of cosines. An
    image without captions ranks behind every caption.
    """
    owner_M = torch.from_numpy(owners)
    ranks, margins = [], []
    for start in range(0, len(image_NE), BLOCK):
        block = image_NE[start : start + BLOCK]
        own = owner_M[None, :] == torch.arange(start, start + len(block))[:, None]
        rank, margin = _against(block @ text_ME.T, own)
        ranks.append(rank)
        margins.append(margin)
    return torch.cat(ranks), torch.cat(margins)


def image_ranks(
    image_NE: Tensor, text_ME: Tensor, owners: Owners, decoded_N: Tensor
) -> tuple[Tensor, Tensor]:
    """For every caption, the rank of its image among the others that decoded, and the margin."""
    owner_M = torch.from_numpy(owners)
    columns = torch.arange(len(image_NE))
    ranks, margins = [], []
    for start in range(0, len(text_ME), BLOCK):
        block = text_ME[start : start + BLOCK]
        own = owner_M[start : start + BLOCK, None] == columns[None, :]
        rank, margin = _against((block @ image_NE.T).masked_fill(~decoded_N, -torch.inf), own)
        ranks.append(rank)
        margins.append(margin)
    return torch.cat(ranks), torch.cat(margins)


def outcomes(
    keys: list[str], image_NE: Tensor, text_ME: Tensor, owners: Owners, decoded_N: Tensor
) -> pa.Table:
    """One row per query: direction, sample_id, label, rank, margin, correct; images first.

    `direction` is "text" (an image looks for its text) or "image". An image that did not decode
    is never found, nor are its captions; it is no answer to others. A margin is null where there is
    none.
    """
    sound = decoded_N.numpy()
    text_rank, text_margin = text_ranks(image_NE, text_ME, owners)
    image_rank, image_margin = image_ranks(image_NE, text_ME, owners, decoded_N)
    labels = np.concatenate([np.arange(len(keys)), owners])
    ranks = torch.cat([text_rank, image_rank]).numpy()
    sound = np.concatenate([sound, sound[owners]])
    ranks = np.where(sound, ranks, LAST)
    margins = torch.cat([text_margin, image_margin]).double().numpy()
    return pa.table(
        {
            "direction": ["text"] * len(keys) + ["image"] * len(owners),
            "sample_id": keys + [keys[owner] for owner in owners.tolist()],
            "label": pa.array(labels, pa.int32()),
            "rank": pa.array(ranks, pa.int32()),
            "margin": pa.array(margins, mask=~(sound & np.isfinite(margins))),
            "correct": ranks == 0,
        }
    )


def hits(table: pa.Table) -> dict[str, tuple[int, int]]:
    """(found, asked) by clip-benchmark's names of the metrics."""
    direction, rank = table["direction"].to_numpy(), table["rank"].to_numpy()
    return {
        f"{way}_retrieval_recall@{top}": (
            int((rank[direction == way] < top).sum()),
            int((direction == way).sum()),
        )
        for way in ("image", "text")
        for top in TOPS
    }


def _against(scores: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Rank and margin of each row's best own column against the columns that are not its own.

    What is not finite is never found.
    """
    if not scores.shape[1]:
        return torch.zeros(len(scores), dtype=torch.int64), torch.full((len(scores),), torch.nan)
    best_own = scores.masked_fill(~own, -torch.inf).amax(dim=1)
    others = scores.masked_fill(own, -torch.inf)
    rank = (~(others < best_own[:, None]) & ~own).sum(dim=1)
    rank = torch.where(best_own.isfinite(), rank, LAST)
    return rank, best_own - others.amax(dim=1)
