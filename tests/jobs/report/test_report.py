"""The report of a small build by the real engine: hostile captions, faults, copies, a model."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from PIL import Image

from curation.dedup import image_dedup
from curation.images import image_rules
from curation.pack import shard
from curation.pack.tar import TarWriter
from curation.queries import balance
from jobs.report import compose
from jobs.report.rows import draw
from pipeline import recipe
from pipeline.dataset.params import Params
from pipeline.dataset.uid import keyed_uniform, pair_uid
from pipeline.dataset.verdict import Judge, Reason
from pipeline.exchange import sort_by_uid
from pipeline.ledger.lineage import wiring
from pipeline.run import build
from pipeline.schedule.inline import Inline
from pipeline.stage import KEY, Exchange, Fold, Map, Output, Stage
from pipeline.store import refs
from pipeline.store.objects import Store
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


class WhyNot(Reason):
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
    return simplejpeg.encode_jpeg(pixels, 95, "RGB", "444")


def extract(task):
    numbers = json.loads(task.upstream.open(task.index).read())
    pairs = [(f"http://host{n % 5}.example/{n}.jpg", caption_of(n)) for n in numbers]
    table = pa.table(
        {
            "uid": pa.array([pair_uid(*pair) for pair in pairs], pa.binary(16)),
            "url": [url for url, _ in pairs],
            "caption": [caption for _, caption in pairs],
        }
    )
    judge = Judge(sort_by_uid(table))
    judge.drop(_captions(judge, lambda text: not text), WhyNot.NO_CAPTION)
    return Output(judge.table())


def _captions(judge, test):
    return np.array([test(text) for text in judge.table()["caption"].to_pylist()], bool)


def language(task):
    texts = task.table["caption"].to_pylist()
    found = ["de" if text.startswith("ein ") else "en" for text in texts]
    judge = Judge(task.table.append_column("language", pa.array(found)))
    judge.drop(np.array(found) == "de", LanguageReason.OTHER, 0.1, 0.5, "de")
    return Output(judge.table())


def match(task):
    texts = task.table["caption"].to_pylist()
    ids = [[n for n, query in enumerate(QUERIES) if query in text.split()] for text in texts]
    judge = Judge(task.table.append_column("query_ids", pa.array(ids, pa.list_(pa.uint32()))))
    judge.drop(np.array([not each for each in ids]), MatchReason.NO_QUERY)
    return Output(judge.table())


def fetch(task):
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


def bytes_of(pool, table):
    places = table.select(["pool_part", "pool_offset", "pool_size"]).to_pylist()
    return [
        pool.ranges(
            pool.manifest.parts[p["pool_part"]], "tar", [p["pool_offset"]], [p["pool_size"]]
        )[0]
        for p in places
    ]


def rules(task):
    def images(rows):
        return bytes_of(task.sides["pool"], rows)

    return Output(image_rules.image_rules(task.table, images, task.params))


def by_picture(table, params):
    return table.append_column(
        KEY, pa.array([d[:16] for d in table["sha256"].to_pylist()], pa.binary(16))
    )


def pack(task):
    tokens = [np.array([49406, 320, 49407], np.uint16)] * task.table.num_rows
    packed = shard.pack(task.table, bytes_of(task.sides["pool"], task.table), tokens, task.params)
    return Output(packed.table, {"tar": packed.tar, "arrow": packed.arrow})


def train(task):
    names = ("loss", "logit_scale", "positive_cosine", "margin", "grad_norm", "learning_rate")
    metrics = [
        {"step": s, **{name: 1 / s + n for n, name in enumerate(names)}} for s in range(1, 9)
    ]
    record = {"config": {"batch_size": 32}, "metrics": metrics, "parameters": 9_876_543}
    record["samples_seen"] = 256
    return Output(task.table, {"json": json.dumps(record).encode()})


def evaluate(task):
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


CATALOGUE = {
    stage.name: stage
    for stage in (
        Stage("extract", 1, "Pairs", Params, Map(extract), WhyNot, reads="pages"),
        Stage("language", 1, "Languages", Params, Map(language), LanguageReason),
        Stage("match", 1, "Queries", Params, Map(match), MatchReason),
        Stage(
            "count",
            1,
            "Counts",
            Params,
            Fold(
                lambda task: balance.count(task.table, len(QUERIES)),
                lambda tables, params: balance.merge_counts(tables),
            ),
            conserves=False,
        ),
        Stage(
            "balance",
            1,
            "Coins",
            balance.BalanceParams,
            Map(lambda t: Output(balance.balance(t.table, t.sides["counts"].table(), t.params))),
            balance.BalanceReason,
            sides={"counts": "count"},
        ),
        Stage("fetch", 1, "Pictures", Params, Map(fetch), FetchReason),
        Stage(
            "image-rules",
            1,
            "Sizes",
            image_rules.ImageRuleParams,
            Map(rules),
            image_rules.ImageRuleReason,
            sides={"pool": "fetch"},
        ),
        Stage(
            "image-dedup",
            1,
            "Copies",
            image_dedup.ImageDedupParams,
            Exchange(
                by_picture,
                lambda t: Output(image_dedup.image_dedup(t.table, t.params)),
                lambda rows, params: 2,
            ),
            image_dedup.ImageDedupReason,
        ),
        Stage(
            "shard",
            1,
            "Shards",
            shard.PackParams,
            Exchange(lambda t, p: t.append_column(KEY, t["uid"]), pack, lambda rows, params: 2),
            shard.PackReason,
            sides={"pool": "fetch"},
        ),
        Stage("train", 1, "Model", Params, Map(train, whole=True)),
        Stage(
            "evaluate",
            1,
            "Scores",
            Params,
            Map(evaluate, whole=True),
            reads="train",
            conserves=False,
        ),
    )
}


@dataclass(frozen=True)
class Built:
    """A finished build and its report."""

    store: Store
    datasets: dict
    made: compose.Report

    def render(self, **how) -> compose.Report:
        wired = wiring(self.datasets)
        return compose.render("small", self.datasets, wired, QUERIES, CATALOGUE, **how)


def made_in(folder: Path, stages: str = RECIPE) -> Built:
    folder.mkdir(exist_ok=True)
    (folder / "pages-0.json").write_text(json.dumps(list(range(0, 200))))
    (folder / "pages-1.json").write_text(json.dumps(list(range(200, 420))))
    (folder / "small.yaml").write_text(stages)
    store = Store(str(folder / "store"))
    build(recipe.load(folder / "small.yaml", CATALOGUE), store, Inline(), Progress())
    ref = refs.read(store, "small")
    assert ref is not None
    datasets = ref.datasets(store)
    return Built(
        store,
        datasets,
        compose.render("small", datasets, wiring(datasets), QUERIES, CATALOGUE),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    return made_in(tmp_path_factory.mktemp("report"))


class Document(HTMLParser):
    """A page as text, and by panel: its text, its pictures; plus every tag and attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.panels: dict[str, str] = {"": ""}
        self.pictures: dict[str, list[bytes]] = {}
        self._panel = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        values = dict(attrs)
        if tag == "section":
            self._panel = values["id"]
            self.panels[self._panel] = ""
        if tag == "img":
            data = base64.b64decode(values["src"].split(",", 1)[1])
            self.pictures.setdefault(self._panel, []).append(data)

    def handle_data(self, data):
        self.panels[self._panel] += data + "\n"


@pytest.fixture(scope="module")
def page(built: Built) -> Document:
    return Document(built.made.html)


def manifest(built: Built, name: str):
    return built.datasets[name].manifest


def test_every_panel_of_a_whole_build_is_there(page):
    names = ["funnel", "dropped", "kept", "duplicates", "queries", "columns", "training"]
    assert list(page.panels) == ["", *names, "evaluation", "manifests"]


def test_the_funnel_tells_the_manifests_counts_and_adds_up(built, page):
    line = [name for name in built.datasets if manifest(built, name).conserves]
    dropped = sum(manifest(built, name).rows_dropped for name in line)
    kept = manifest(built, line[-1]).rows_kept
    assert f"{kept:,} kept + {dropped:,} dropped = 420 candidates." in page.panels["funnel"]
    assert dropped > 100
    summary = built.made.summary
    assert [row["stage"] for row in summary["funnel"]] == line
    assert summary["candidates"] == kept + sum(row["rows_dropped"] for row in summary["funnel"])
    assert summary["kept"] == manifest(built, "shard").rows_kept


def test_every_reason_is_shown_with_label_hint_count_and_rows(built, page):
    text = page.panels["dropped"]
    for name, dataset in built.datasets.items():
        for reason, count in dataset.manifest.reasons.items():
            member = next(each for each in CATALOGUE[name].reasons if each == reason)
            assert f"{member.label}\n" in text
            assert member.hint in text
            assert f"\n{count:,} (" in text
    assert text.count("damage\n") == 2, "time-outs and broken pictures, nothing else"
    assert "0.1 against a bound of 0.5; de\n" in text
    assert "404; HTTP 404\n" in text


def test_rows_shown_are_those_with_the_smallest_hashes_of_all_parts(built):
    dropped = pa.concat_tables(built.datasets["language"].dropped())
    coins = keyed_uniform(0, "report", dropped["uid"])
    uids = dropped["uid"].to_pylist()
    expected = [uids[row] for row in np.argsort(coins)[:6].tolist()]
    drawn = draw(built.datasets["language"], "dropped", 6, by="reason")
    assert [each.row["uid"] for each in drawn["other_language"]] == expected
    assert len({each.part.index for each in drawn["other_language"]}) == 2


def test_dropped_pictures_are_shown_where_they_can_be_decoded(built, page):
    reasons = manifest(built, "image-rules").reasons
    assert set(reasons) == {"undecodable", "too_small"}
    copies = manifest(built, "image-dedup").reasons
    shown = [reasons["too_small"], *copies.values()]
    assert len(page.pictures["dropped"]) == sum(min(6, count) for count in shown)
    assert "no preview" in page.panels["dropped"]
    assert "no picture came" in page.panels["dropped"]


def test_kept_pairs_stand_beside_their_own_pictures(built, page):
    drawn = draw(built.datasets["shard"], "parquet", 48)[""]
    assert len(drawn) == len(page.pictures["kept"]) == 48
    for each, picture in zip(drawn, page.pictures["kept"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        assert max(pixels.shape) == 160
        number = int(each.row["url"].rsplit("/", 1)[1].split(".")[0])
        wanted = list(COLOURS.values())[number % 3]
        assert np.abs(pixels[80, 40].astype(int) - wanted).max() < 12
        assert each.row["uid"].hex() in page.panels["kept"]


def test_copies_stand_beside_the_row_they_gave_way_to(built, page):
    dropped = pa.concat_tables(built.datasets["image-dedup"].dropped())
    survivors = set(dropped["evidence"].to_pylist())
    shown = [uid for uid in survivors if f"\n{uid}\n" in page.panels["duplicates"]]
    assert shown
    assert page.panels["duplicates"].count("kept, of ") == len(shown)
    assert page.panels["duplicates"].count("gave way") >= len(shown)


def test_queries_are_counted_again_from_the_rows_that_were_kept(built):
    def recounted(name):
        flat = [n for ids in built.datasets[name].table()["query_ids"].to_pylist() for n in ids]
        return np.bincount(flat, minlength=len(QUERIES))

    matched, balanced = recounted("match"), recounted("balance")
    head = matched > 40
    summary = built.made.summary["queries"]
    assert summary["t"] == 40
    assert summary["head_queries"] == head.sum()
    assert summary["with_pairs"]["matched"] == (matched > 0).sum() == 4
    assert summary["head_share"]["matched"] == matched[head].sum() / matched.sum()
    assert summary["head_share"]["balanced"] == balanced[head].sum() / balanced.sum()
    assert balanced.sum() < matched.sum()


def test_scores_come_with_interval_and_chance(built, page):
    headline = page.panels[""]
    assert "75.0 %\n" in headline
    assert "2.2 x chance; 95 %: 46.8 % to 91.1 %" in headline
    assert "5.0 x chance; 95 %: 40.0 % to 60.0 %" in headline
    assert "9.9 M\n" in page.panels["training"]
    errors = page.panels["evaluation"].split("The surest errors, 3 of 3:")[1].split()
    assert errors.index("s11") < errors.index("s10") < errors.index("s09")
    assert errors[errors.index("s11") + 1 :][:2] == ["cow", "ant"]
    assert built.made.summary["evaluation"][0]["ci95"]["acc1"]["low"] == 0.4676


def test_hostile_captions_are_shown_and_do_nothing(page):
    assert EVIL in page.panels["kept"] + page.panels["dropped"]
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/jpeg;base64,", "#"))


def test_the_same_content_gives_the_same_bytes_wherever_it_is_stored(built, tmp_path):
    again = made_in(tmp_path / "elsewhere")
    assert again.made.html == built.made.html
    assert json.dumps(again.made.summary) == json.dumps(built.made.summary)
    assert again.store.url not in again.made.html


def test_seconds_are_shown_only_where_they_are_given(built, page):
    assert "seconds" not in page.panels["funnel"]
    timed = Document(built.render(timings={"fetch": 98.76}).html)
    assert "98.8\n" in timed.panels["funnel"]
    assert "98.8\n" in timed.panels["manifests"]


def test_a_build_of_text_alone_has_a_report_without_pictures(tmp_path):
    text = made_in(tmp_path / "text", RECIPE.split("  fetch:")[0])
    page = Document(text.made.html)
    assert list(page.panels) == ["", "funnel", "dropped", "kept", "queries", "columns", "manifests"]
    assert "img" not in page.tags
    assert "pairs kept" in page.panels[""]
    assert text.made.summary["training"] is None
    assert text.made.summary["trained"] is None


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_a_browser_shows_it_light_and_dark(built, tmp_path, scheme, dark):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed: the report is not looked at in a browser")
    (tmp_path / "report.html").write_text(built.made.html)
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *(
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", "--window-size=900,1200"),
        *(f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={tmp_path / 'p.png'}"),
        (tmp_path / "report.html").as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    pixels = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    ground = pixels[2, 2]
    assert (ground.mean() < 60) if dark else (ground.mean() > 240)
    kept = (88, 164, 211) if dark else (43, 108, 153)
    assert (np.abs(pixels - kept).max(axis=2) < 6).sum() > 2000, "the funnel's bars"
