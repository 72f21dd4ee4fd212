"""Zero-shot classification with prompt ensembles (CLIP section 3.1.4), and its metrics.

Ties count against the model: a truth that shares its score ranks behind. Shapes: N images,
C classes, E embedding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.evaluate.embed import embed_texts
from trainer.models.clip import CLIP

Prompts = Sequence[str] | Mapping[str, Sequence[str]]


def prompts(name: str, templates: Prompts) -> list[str]:
    """A class's texts: its own where `templates` maps names to texts, else each template filled in.

    `{c}` (clip-benchmark) and `{}` (OpenAI) both stand for the name; other braces are kept.
    """
    if isinstance(templates, Mapping):
        return list(templates[name])
    return [template.replace("{c}", name).replace("{}", name) for template in templates]


def classifier(
    model: CLIP,
    classes: Sequence[str],
    templates: Prompts,
    *,
    batch_size: int,
    device: torch.device,
) -> Tensor:
    """(C, E): for each class norm(mean over prompts of norm(text embedding))."""
    texts = [prompts(name, templates) for name in classes]
    unit = embed_texts(model, [text for own in texts for text in own], batch_size, device)
    means = [rows.mean(dim=0) for rows in torch.split(unit, [len(own) for own in texts])]
    return F.normalize(torch.stack(means), dim=-1)


def outcomes(
    keys: Sequence[str], labels: npt.NDArray[np.int64], scores_NC: Tensor, decoded_N: Tensor
) -> pa.Table:
    """One row per image: sample_id, label, prediction, rank (0 is best), margin, correct.

    `margin` is the truth's cosine less the best other's, if there is one. An image that did not
    decode, or whose scores are not all finite, predicts -1, ranks last and has no margin.
    """
    truth = torch.from_numpy(labels)[:, None]
    own_N1 = scores_NC.gather(1, truth)
    rank = (scores_NC >= own_N1).sum(dim=1) - 1
    best_other = scores_NC.scatter(1, truth, -torch.inf).amax(dim=1)
    sound = (decoded_N & scores_NC.isfinite().all(dim=1)).numpy()
    ranks = np.where(sound, rank.numpy(), scores_NC.shape[1] - 1)
    prediction = np.where(sound, scores_NC.argmax(dim=1).numpy(), -1)
    margin = (own_N1[:, 0] - best_other).double().numpy()
    return pa.table(
        {
            "sample_id": pa.array(keys, pa.string()),
            "label": pa.array(labels, pa.int32()),
            "prediction": pa.array(prediction, pa.int32()),
            "rank": pa.array(ranks, pa.int32()),
            "margin": pa.array(margin, pa.float64(), mask=~(sound & np.isfinite(margin))),
            "correct": pa.array((ranks == 0) & sound),
        }
    )


def hits(table: pa.Table, num_classes: int) -> dict[str, int]:
    """How many rows count for acc1 and, from five classes on, for acc5."""
    rank, sound = table["rank"].to_numpy(), table["prediction"].to_numpy() >= 0
    tops = (1, 5) if num_classes >= 5 else (1,)
    return {f"acc{top}": int(((rank < top) & sound).sum()) for top in tops}


def mean_per_class_recall(table: pa.Table) -> float:
    """Mean, over the classes that occur, of the share of their images that is right; 0 of none."""
    labels, correct = table["label"].to_numpy(), table["correct"].to_numpy()
    counts = np.bincount(labels)
    right = np.bincount(labels, weights=correct)
    shares = right[counts > 0] / counts[counts > 0]
    return float(shares.mean()) if len(shares) else 0.0
