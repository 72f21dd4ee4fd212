"""Token ids as a dataset stores them: CLIP's, framed by the two markers.

How a caption becomes ids is the tokenizer's work; readers only need to know a framed text.
"""

import numpy as np
import numpy.typing as npt

SOT, EOT = 49_406, 49_407
"""The ids that begin and end every text in OpenAI's vocabulary; no id is above them."""

Ids = npt.NDArray[np.uint16]


def truncate(ids: Ids, context_length: int) -> Ids:
    """Framed ids cut to `context_length`, EOT last."""
    return ids if len(ids) <= context_length else np.append(ids[: context_length - 1], ids[-1:])
