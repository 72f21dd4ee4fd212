"""The training step on a CPU against open_clip's: ViT-B/32, 64 pairs, float32, the same threads.

Ours begins with uint8 canvases that it resizes and standardises, and computes in the deterministic
kernels of a run; open_clip's is handed float pixels that are finished already. Captions are those
of the mini-web: ours fill them to the batch's longest, open_clip's to 77 tokens.
Shapes: B pairs, L tokens.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from curation.text.caption_rules import CaptionRuleParams, caption_rules
from curation.text.language import LanguageParams, language
from curation.text.repair import CaptionParams, captions
from curation.web.extract import ExtractParams, extract
from jobs.bench.table import Measurement, against, interleaved, seconds
from trainer.config import RunConfig
from trainer.data import augment
from trainer.data.batch import TOKEN_MULTIPLE, Batch
from trainer.measure.peers import load_open_clip, open_clip_step
from trainer.measure.steps import Setting, noise_batch
from trainer.models.init import new_clip
from trainer.parallel.world import World
from trainer.run.step import Stepper
from trainer.text.tokenizer import encode_batch, pad

PAGES = Path(__file__).parent.parent / "quickstart" / "web" / "pages-00.warc.gz"
CPU = torch.device("cpu")
CONTEXT = 77
GOAL = 1.0


def measure(repeats: int, setting: Setting | None = None) -> list[Measurement]:
    """Seconds of a step, with captions as a run has them and with all of them filled."""
    setting = setting or Setting("ViT-B-32", 64, CPU, CONTEXT, "fp32", compiled=False, steps=1)
    peer_name = f"open_clip {load_open_clip().__version__}"
    tokens_BL = caption_tokens(setting.batch)
    batch = replace(noise_batch(setting.config, tokens_BL.shape[1], CPU), tokens=tokens_BL)
    filled = replace(batch, tokens=F.pad(tokens_BL, (0, CONTEXT - tokens_BL.shape[1])))
    step = _ours(setting)
    calls = [lambda: step(batch), lambda: step(filled), _peer(setting, filled)]
    trimmed, full, peer = interleaved([_timed(call) for call in calls], repeats)
    name = f"step, {setting.model}, batch {setting.batch}, captions"
    return [
        against(f"{name} of {tokens_BL.shape[1]} tokens", trimmed, peer, peer_name, "s", GOAL),
        against(f"{name} filled to {CONTEXT}", full, peer, peer_name, "s", None),
    ]


def caption_tokens(count: int) -> Tensor:
    """A batch of the mini-web's English captions, the one of median length: int64 (B, L)."""
    table = _kept(extract(PAGES.read_bytes(), PAGES.name, ExtractParams()))
    table = _kept(captions(table, CaptionParams()))
    table = _kept(language(table, LanguageParams(keep=("en",))))
    ids = encode_batch(
        _kept(caption_rules(table, CaptionRuleParams()))["caption"].to_pylist(), CONTEXT
    )
    batches = [ids[at : at + count] for at in range(0, len(ids) - count + 1, count)]
    batches.sort(key=lambda batch: max(map(len, batch)))
    tokens_BL = torch.from_numpy(pad(batches[len(batches) // 2], TOKEN_MULTIPLE))
    return tokens_BL[:, :CONTEXT]


def _kept(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_null(table["verdict"])).drop_columns("verdict")


def _ours(setting: Setting) -> Callable[[Batch], object]:
    model = new_clip(setting.config.shape(), seed=0)
    stepper = Stepper(model, setting.config, RunConfig(), World(0, 1, CPU))

    def step(batch: Batch) -> None:
        torch.use_deterministic_algorithms(True)
        try:
            stepper(0, batch)
        finally:
            torch.use_deterministic_algorithms(False)

    return step


def _peer(setting: Setting, batch: Batch) -> Callable[[], object]:
    peer = open_clip_step(setting.config, CPU, compiled=False)
    pixels_BCSS = augment.prepare(batch, setting.config)
    return lambda: peer(pixels_BCSS, batch.tokens)


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    return lambda: seconds(call)
