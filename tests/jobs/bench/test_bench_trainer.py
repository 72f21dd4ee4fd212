"""The trainer's benches: which rows are asked for, and that paired figures are what they say."""

import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.stats import binom

from jobs.bench import learning, step, trainer
from jobs.bench.groups import GROUPS
from jobs.bench.learning import LearningPlan, Trial, interval, means
from jobs.bench.learning_table import learning_tables
from jobs.bench.table import Measurement, against, to_json, to_table
from jobs.commands.bench import bench
from pipeline.dataset.errors import UserError
from pipeline.dataset.tokens import EOT
from tests.support import folders
from trainer.evaluate.sets import read_set
from trainer.measure.steps import Setting
from trainer.models.config import MODELS

pytestmark = pytest.mark.slow

HELD_OUT = Path(__file__).parents[3] / "jobs" / "quickstart" / "heldout" / "wds_openmoji"
ROW = against("row", 1.0, 3.0, "peer", "s", 2.0)


def part_of_held_out(folder: Path) -> Path:
    """Every 25th drawing of the held-out set and the first of each group, in the same layout."""
    given = read_set(HELD_OUT)
    chosen = [
        sample
        for index, sample in enumerate(given.samples())
        if index % 25 == 0 or given.classes[sample.label] in GROUPS.values()
    ]
    (folder / "test").mkdir(parents=True)
    (folder / "test" / "nshards.txt").write_text("1")
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for label, sample in enumerate(chosen):
            members = {"cls": b"%d" % label, "txt": "\n".join(sample.captions).encode()}
            for suffix, data in (members | {"webp": sample.image}).items():
                member = tarfile.TarInfo(f"{sample.key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    names = "\n".join(given.classes[sample.label] for sample in chosen)
    (folder / "classnames.txt").write_text(names)
    (folder / "zeroshot_classification_templates.txt").write_text("a drawing of {c}")
    return folder


def quiet(line: str) -> None:
    pass


def group(monkeypatch: pytest.MonkeyPatch, name: str, measure: object) -> None:
    module = ModuleType(name)
    vars(module)["measure"] = measure
    monkeypatch.setitem(sys.modules, f"jobs.bench.{name}", module)


def test_rows_come_by_group_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def tokenizer(repeats: int, texts: Path | None = None) -> list[Measurement]:
        asked.append(("tokenizer", repeats, texts))
        return [ROW]

    def loss(repeats: int) -> list[Measurement]:
        asked.append(("loss", repeats, None))
        return [ROW, ROW]

    group(monkeypatch, "tokenizer", tokenizer)
    group(monkeypatch, "loss", loss)
    assert len(trainer.measure(5, ["loss", "tokenizer"], Path("words"), quiet)) == 3
    assert asked == [("loss", 5, None), ("tokenizer", 5, Path("words"))]


def test_an_unknown_group_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group(monkeypatch, "loss", lambda repeats: pytest.fail("measured"))
    with pytest.raises(UserError, match="there is no speed; there are tokenizer, loss"):
        trainer.measure(1, ["loss", "speed"], None, quiet)


def test_a_missing_peer_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(repeats: int) -> list[Measurement]:
        raise ModuleNotFoundError(name="open_clip")

    group(monkeypatch, "step", measure)
    with pytest.raises(UserError, match=r"open_clip is missing: pip install 'openwit\[bench\]'"):
        trainer.measure(1, ["step"], None, quiet)


def test_the_command_prints_what_it_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group(monkeypatch, "loss", lambda repeats: [ROW])
    bench(["trainer", "--only", "loss", "--json"], result_action="return_value")
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["ratio"], row["met"], row["peer_name"]) == (3.0, True, "peer")
    bench(["trainer", "--only", "loss"], result_action="return_value")
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["what", "ours", "peer", "unit", "ratio", "goal", "met"]
    assert line.split() == ["row", "1", "3", "(peer)", "s", "3.00", ">=", "2", "x", "yes"]


def test_a_row_without_a_goal_neither_meets_nor_misses_it() -> None:
    row = against("row", 1.0, 3.0, "peer", "s", None)
    assert row.met is None and row.goal == ""
    assert to_json([row])["rows"][0]["met"] is None
    assert list(to_table([row]).columns[-1].cells) == [""]


def test_captions_are_real_and_framed_as_a_run_has_them() -> None:
    tokens_BL = step.caption_tokens(64)
    ends = (tokens_BL == EOT).sum(dim=1)
    lengths = (tokens_BL != 0).sum(dim=1)
    assert len(tokens_BL) == 64 and bool((ends == 1).all())
    assert tokens_BL.shape[1] - 8 < int(lengths.max()) <= tokens_BL.shape[1] <= 77
    assert len(torch.unique(tokens_BL, dim=0)) > 32


def test_both_sides_of_a_step_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open_clip_train")
    monkeypatch.setitem(MODELS, "tiny-77", replace(MODELS["ViT-Ti-8-32px"], context_length=77))
    rows = step.measure(1, Setting("tiny-77", 8, step.CPU, 77, "fp32", False, 1))
    trimmed, filled = rows
    assert trimmed.goal == ">= 1 x" and filled.goal == ""
    assert trimmed.peer == filled.peer and trimmed.peer_name is not None
    assert trimmed.peer_name.startswith("open_clip 3")
    assert not torch.are_deterministic_algorithms_enabled()


def test_runs_of_a_plan_differ_by_lambda_and_seed_alone() -> None:
    configs = LearningPlan((0.0, 0.3), (0, 1), steps=7).configs()
    assert [(c.seed, c.pos_reg) for c in configs] == [(0, 0.0), (0, 0.3), (1, 0.0), (1, 0.3)]
    rest = [{**c.record(), "seed": 0, "pos_reg": 0} for c in configs]
    assert all(one == rest[0] for one in rest) and rest[0]["steps"] == 7
    assert LearningPlan((0.0,), (0,)).configs()[0].steps == 1200


def test_a_plan_without_lambda_0_compares_nothing() -> None:
    with pytest.raises(UserError, match="--lambdas: 0 is missing"):
        LearningPlan((0.1,), (0,))


def test_an_interval_of_a_share_is_the_binomial_s() -> None:
    hits = np.repeat([1.0, 0.0], [300, 700])
    low, high = interval(hits)
    # A resample's number of hits is binomial, so the bootstrap's quantiles are known.
    expected = binom(1000, 0.3).ppf([0.025, 0.975]) / 1000
    np.testing.assert_allclose([low, high], expected, atol=0.002)
    assert interval(hits) == (low, high)
    assert interval(np.ones(10)) == (1.0, 1.0)


def test_differences_are_taken_within_a_seed() -> None:
    def trial(seed: int, pos_reg: float, reading: float, hits: list[float]) -> Trial:
        return Trial(seed, pos_reg, {"margin": reading}, {"acc1": np.array(hits)})

    trials = [
        trial(0, 0.0, 1.0, [0, 0, 1, 1]),
        trial(1, 0.0, 5.0, [1, 1, 0, 0]),
        trial(0, 0.3, 1.5, [0, 1, 1, 1]),
        trial(1, 0.3, 5.5, [1, 1, 1, 0]),
    ]
    found = means(trials, 0.3)
    assert found["margin"].value == 3.5
    assert found["margin"].more_by_seed == (0.5, 0.5)
    assert found["acc1"].value == 0.75
    assert found["acc1"].more == 0.25 and found["acc1"].more_by_seed == (0.25, 0.25)
    # Over both seeds each picture gained 0, 0.5, 0.5 or 0: none lost.
    assert found["acc1"].more_interval is not None and found["acc1"].more_interval[0] == 0.0
    assert means(trials, 0.0)["acc1"].more_interval == (0.0, 0.0)


def test_a_table_is_made_of_runs_and_a_finished_run_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.evaluate.tasks.probe.STRENGTHS", (1e-2,))
    dataset = folders.write_dataset(tmp_path / "pairs", folders.coloured_pairs(200))
    held_out = part_of_held_out(tmp_path / "wds_part")
    plan = LearningPlan((0.0, 1.0), (0,), steps=2)
    lines: list[str] = []
    result = learning.learn(dataset, held_out, tmp_path / "out", plan, lines.append)
    saved = (tmp_path / "out").glob("*/*/checkpoints/**/*.safetensors")
    before = {path: path.stat().st_mtime_ns for path in saved}
    assert learning.learn(dataset, held_out, tmp_path / "out", plan, quiet) == result
    assert before == {path: path.stat().st_mtime_ns for path in before} and before
    assert [line.split(":")[0] for line in lines] == ["seed 0, lambda 0", "seed 0, lambda 1"]
    plain, pulled = (result["lambdas"][name] for name in ("0", "1"))
    assert set(plain) >= {"margin", "positive", "gap", "logit scale", "acc1", "R@10", "probe"}
    assert pulled["positive"]["more"] > 0
    values, differences = learning_tables(result)
    assert values.row_count == 2 and differences.row_count == 1
