"""A small build by the real engine, for reports: hostile captions, faults, copies, a model.

A pair is made from a number, which decides its caption, its picture and what becomes of it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg

from curation.dedup import image_dedup
from curation.images import image_rules
from curation.pack import shard
from curation.pack.tar import TarWriter
from curation.queries import balance
from jobs.report import compose
from pipeline.dataset import schema
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.params import Params
from pipeline.dataset.uid import pair_uid
from pipeline.dataset.verdict import Judge, Reason
from pipeline.exchange import sort_by_uid
from pipeline.ledger.lineage import wiring
from pipeline.recipe import recipe
from pipeline.run import build
from pipeline.schedule.inline import Inline
from pipeline.stage import (
    AnyStage,
    Exchange,
    FileTask,
    Fold,
    Keyed,
    Map,
    Output,
    Read,
    RowsSide,
    RowsTask,
    Rule,
    Stage,
    Whole,
    WholeTask,
)
from pipeline.store import refs
from pipeline.store.objects import Store
from pipeline.store.result import Result
from pipeline.watch.progress import Progress

EVIL = "<script>alert('pwned')</script><img src=http://evil.example/x onerror=alert(1)> dog"
QUERIES = ("dog", "cat", "red", "unicorn", "src=http://evil.example/x")
COLOURS = {"red": (220, 20, 30), "green": (20, 200, 40), "blue": (30, 40, 210)}
RECIPE = """
name: small
inputs: {pages: pages-*.json}
stages:
  extract:
  language:
  match:
  count:
  balance: {t: 40}
  fetch:
  image-rules:
  image-dedup:
  shard:
  train:
  evaluate:
"""


class ExtractReason(Reason):
    NO_CAPTION = "no_caption", "no caption", "the page gives its image no words"


class LanguageReason(Reason):
    OTHER = "other_language", "in another language"


class FetchReason(Reason):
    NOT_FOUND = "not_found", "no longer there"
    TIMEOUT = "timeout", "took too long", "fetch again", True


class MatchReason(Reason):
    NO_QUERY = "no_query", "matches no query"


def caption_of(number: int) -> str:
    colour = list(COLOURS)[number % 3]
    if number % 40 == 7:
        return ""
    if number % 10 == 3:
        return f"ein {colour}er Hund Nummer {number}"
    if number % 50 == 1:
        return f"{EVIL} {number}"
    animal = "dog" if number % 4 else "cat"
    return f"a {colour} {animal} number {number}"


def picture_of(url: str) -> bytes:
    """A JPEG of one colour with a dark frame, a tiny one or a cut-off one, as its URL says."""
    number = int(url.rsplit("/", 1)[1].split(".")[0])
    if number % 30 == 4:
        return b"\xff\xd8\xff\xe0 this is no picture"
    side = 8 if number % 30 == 6 else 200
    pixels = np.zeros((side, side, 3), np.uint8)
    inner = slice(side // 10, -side // 10)
    pixels[inner, inner] = list(COLOURS.values())[number % 3]
    if number % 30 != 8:
        pixels[side // 2, side // 2] = (number % 256, number // 256, 99)
    jpeg: bytes = simplejpeg.encode_jpeg(pixels, 95, "RGB", "444")
    return jpeg


def extract(task: FileTask[Params]) -> Output:
    numbers = json.loads(task.file.read())
    pairs = [(f"http://host{n % 5}.example/{n}.jpg", caption_of(n)) for n in numbers]
    table = pa.table(
        {
            "uid": pa.array([pair_uid(*pair) for pair in pairs], pa.binary(16)),
            "url": [url for url, _ in pairs],
            "caption": [caption for _, caption in pairs],
        }
    )
    judge = Judge(sort_by_uid(table))
    judge.drop(_captions(judge, lambda text: not text), ExtractReason.NO_CAPTION)
    return Output(judge.table())


def _captions(judge: Judge, test: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    return np.array([test(text) for text in judge.table()["caption"].to_pylist()], bool)


def language(task: RowsTask[Params]) -> Output:
    texts = task.table["caption"].to_pylist()
    found = ["de" if text.startswith("ein ") else "en" for text in texts]
    judge = Judge(task.table.append_column("language", pa.array(found)))
    judge.drop(np.array(found) == "de", LanguageReason.OTHER, 0.1, 0.5, "de")
    return Output(judge.table())


def match(task: RowsTask[Params]) -> Output:
    texts = task.table["caption"].to_pylist()
    ids = [[n for n, query in enumerate(QUERIES) if query in text.split()] for text in texts]
    judge = Judge(task.table.append_column("query_ids", pa.array(ids, pa.list_(pa.uint32()))))
    judge.drop(np.array([not each for each in ids]), MatchReason.NO_QUERY)
    return Output(judge.table())


def fetch(task: RowsTask[Params]) -> Output:
    tar, rows = TarWriter(), []
    for row in task.table.to_pylist():
        number = int(row["url"].rsplit("/", 1)[1].split(".")[0])
        body = None if number % 30 in (2, 12) else picture_of(row["url"])
        offset = tar.add(f"{row['uid'].hex()}.jpg", body) if body else None
        digest = hashlib.sha256(body).digest() if body else None
        rows.append((number, digest, offset, len(body) if body else None))
    table = task.table.append_column("sha256", pa.array([row[1] for row in rows], pa.binary(32)))
    parts = [None if row[2] is None else task.index for row in rows]
    table = table.append_column("pool_part", pa.array(parts, pa.int32()))
    table = table.append_column("pool_offset", pa.array([row[2] for row in rows], pa.int64()))
    table = table.append_column("pool_size", pa.array([row[3] for row in rows], pa.int32()))
    judge = Judge(table)
    kinds = np.array([row[0] % 30 for row in rows])
    judge.drop(kinds == 2, FetchReason.NOT_FOUND, 404, None, "HTTP 404")
    judge.drop(kinds == 12, FetchReason.TIMEOUT, 10, 10)
    return Output(judge.table(), {"tar": tar.finish()})


def bytes_of(pool: Result, table: pa.Table) -> list[bytes]:
    places = table.select(["pool_part", "pool_offset", "pool_size"]).to_pylist()
    return [
        pool.ranges(
            pool.manifest.parts[p["pool_part"]], "tar", [p["pool_offset"]], [p["pool_size"]]
        )[0]
        for p in places
    ]


def rules(task: RowsTask[image_rules.ImageRuleParams]) -> Output:
    def images(rows: pa.Table) -> list[bytes]:
        return bytes_of(task.result("pool"), rows)

    return Output(image_rules.image_rules(task.table, images, task.params))


def by_picture(table: pa.Table, params: Params) -> Keyed:
    keys = [digest[:16] for digest in table["sha256"].to_pylist()]
    return Keyed(table, pa.array(keys, pa.binary(16)))


def by_uid(table: pa.Table, params: Params) -> Keyed:
    return Keyed(table, table["uid"].combine_chunks())


def pack(task: RowsTask[shard.PackParams]) -> Output:
    tokens = [np.array([49406, 320, 49407], np.uint16)] * task.table.num_rows
    packed = shard.pack(task.table, bytes_of(task.result("pool"), task.table), tokens, task.params)
    return Output(packed.table, {"tar": packed.tar, "arrow": packed.arrow})


def train(task: WholeTask[Params]) -> Output:
    names = ("loss", "logit_scale", "positive_cosine", "margin", "grad_norm", "learning_rate")
    metrics = [
        {"step": s, **{name: 1 / s + n for n, name in enumerate(names)}} for s in range(1, 9)
    ]
    record = {"config": {"batch_size": 32}, "metrics": metrics, "parameters": 9_876_543}
    record["samples_seen"] = 256
    return Output(task.table, {"json": json.dumps(record).encode()})


def evaluate(task: WholeTask[Params]) -> Output:
    labels = np.arange(12) % 3
    predictions = np.where(np.arange(12) < 9, labels, (labels + 1) % 3)
    outcomes = pa.table(
        {
            "set": ["wds_animals"] * 12,
            "sample_id": [f"s{n:02}" for n in range(12)],
            "label": pa.array(labels, pa.int32()),
            "prediction": pa.array(predictions, pa.int32()),
            "rank": pa.array(np.where(labels == predictions, 0, 1), pa.int32()),
            "margin": np.where(labels == predictions, 0.1, -0.01 * np.arange(12)),
            "correct": labels == predictions,
        }
    )
    ways = {f"{way}_retrieval_recall@10": 0.5 for way in ("image", "text")}
    bound = {"low": 0.4676, "high": 0.9111, "n": 12, "method": "wilson"}
    result = {"dataset": "animals", "task": "zeroshot_classification", "n": 12, "chance": 1 / 3}
    result |= {"metrics": {"acc1": 0.75}, "ci95": {"acc1": bound}, "classes": ["ant", "bee", "cow"]}
    both = {"dataset": "animals", "task": "zeroshot_retrieval", "n": 100, "metrics": ways}
    both["ci95"] = {name: {"low": 0.40, "high": 0.60, "n": 100} for name in ways}
    return Output(outcomes, {"json": json.dumps({"results": [result, both]}).encode()})


def balanced(task: RowsTask[balance.BalanceParams]) -> Output:
    return Output(balance.balance(task.table, task.result("counts").table(), task.params))


POOL = RowsSide("fetch", files=("tar",))
POOLED = (schema.SHA256, *schema.POOL)
ANSWER = tuple(column for column in schema.ANSWER if column not in (schema.TASK, schema.DIRECTION))
STAGES: tuple[AnyStage, ...] = (
    Stage(
        name="extract",
        version=1,
        summary="Pairs",
        params=Params,
        shape=Read(extract),
        adds=(schema.UID, schema.URL, schema.CAPTION),
        reasons=ExtractReason,
        reads="pages",
    ),
    Stage(
        name="language",
        version=1,
        summary="Languages",
        params=Params,
        shape=Map(language),
        adds=(schema.LANGUAGE,),
        reasons=LanguageReason,
    ),
    Stage(
        name="match",
        version=1,
        summary="Queries",
        params=Params,
        shape=Map(match),
        adds=(schema.QUERY_IDS,),
        reasons=MatchReason,
    ),
    Stage(
        name="count",
        version=1,
        summary="Counts",
        params=Params,
        shape=Fold(
            lambda task: balance.count(task.table, len(QUERIES)),
            lambda tables, params: balance.merge_counts(tables),
        ),
        adds=balance.COUNTS,
        conserves=False,
    ),
    Stage(
        name="balance",
        version=1,
        summary="Coins",
        params=balance.BalanceParams,
        shape=Map(balanced),
        adds=balance.ADDS,
        reasons=balance.BalanceReason,
        sides={"counts": RowsSide("count")},
    ),
    Stage(
        name="fetch",
        version=1,
        summary="Pictures",
        params=Params,
        shape=Map(fetch),
        adds=POOLED,
        reasons=FetchReason,
        files=("tar",),
    ),
    Stage(
        name="image-rules",
        version=1,
        summary="Sizes",
        params=image_rules.ImageRuleParams,
        shape=Map(rules),
        adds=image_rules.ADDS,
        reasons=image_rules.ImageRuleReason,
        sides={"pool": POOL},
    ),
    Stage(
        name="image-dedup",
        version=1,
        summary="Copies",
        params=image_dedup.ImageDedupParams,
        shape=Exchange(by_picture, Rule(image_dedup.image_dedup), lambda rows, params: 2),
        adds=image_dedup.ADDS,
        reasons=image_dedup.ImageDedupReason,
    ),
    Stage(
        name="shard",
        version=1,
        summary="Shards",
        params=shard.PackParams,
        shape=Exchange(by_uid, pack, lambda rows, params: 2),
        adds=shard.ADDS,
        rewrites=(schema.WIDTH, schema.HEIGHT, schema.SHA256),
        reasons=shard.PackReason,
        files=("tar", "arrow"),
        sides={"pool": POOL},
    ),
    Stage(
        name="train",
        version=1,
        summary="Model",
        params=Params,
        shape=Whole(train),
        files=("json",),
    ),
    Stage(
        name="evaluate",
        version=1,
        summary="Scores",
        params=Params,
        shape=Whole(evaluate),
        adds=ANSWER,
        reads="train",
        conserves=False,
        files=("json",),
    ),
)
CATALOGUE = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class ReportedBuild:
    """A finished build and its report."""

    store: Store
    datasets: dict[str, Result]
    report: compose.Report

    def render(self, timings: Mapping[str, float] | None = None) -> compose.Report:
        """The report once more, with timings."""
        return render(self.datasets, timings)

    def manifest(self, name: str) -> Manifest:
        """The manifest of one stage."""
        return self.datasets[name].manifest


def render(
    datasets: Mapping[str, Result], timings: Mapping[str, float] | None = None
) -> compose.Report:
    """The report of the finished stages."""
    return compose.render("small", datasets, wiring(datasets), QUERIES, timings)


def build_in(folder: Path, stages: str = RECIPE) -> ReportedBuild:
    """Build `stages` over 420 numbers in two files, in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "pages-0.json").write_text(json.dumps(list(range(0, 200))))
    (folder / "pages-1.json").write_text(json.dumps(list(range(200, 420))))
    (folder / "small.yaml").write_text(stages)
    store = Store(str(folder / "store"))
    build(recipe.load(folder / "small.yaml", CATALOGUE), store, Inline(), Progress())
    ref = refs.read(store, "small")
    assert ref is not None
    datasets = ref.results(store)
    return ReportedBuild(store, datasets, render(datasets))
