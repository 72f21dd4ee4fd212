"""The tokenizer against open_clip's, its shortcuts against what they cut short, and its limits."""

import random
import unicodedata
from itertools import islice, pairwise, product
from typing import Any

import ftfy
import numpy as np
import pytest
from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.bench.tokenizer import local_texts
from pipeline.dataset.tokens import EOT, SOT, truncate
from trainer.errors import ConfigError
from trainer.text import bpe, tokenizer, words
from trainer.text.bpe import encode_words
from trainer.text.tokenizer import OPEN_CLIP_MARKERS, OPENAI_MARKERS, clean, encode_batch, pad

CAPTIONS = [
    "a photo of a cat",
    "  Two   spaces\tand a tab ",
    "Don't we'll they'RE I'd it's I'm you've 'super ''s !'s 's's 'r 'l 'l1 'llama",
    "iPhone 14 Pro Max 256GB - $1,099.00!!! #deal @shop",
    "caf\u00e9 cr\u00e8me, na\u00efve fa\u00e7ade",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; AT&amp;T, black & white &",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dash \u2026 it\u2019s",
    "<i>&amp;rsquo;tis</i>",
    "sch\u00c3\u00b6n mojibake",
    "\u732b\u304c\u5bdd\u3066\u3044\u308b 2023\u5e74",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u0437\u0438\u043c\u043e\u0439",
    "\U0001f600 smile \U0001f469\u200d\U0001f4bb",
    "",
    "!",
    "x" * 300,
    "word " * 200,
    "line\nbreak\r\nand\u00a0nbsp",
    "1234567890 3.14159 \u0661\u0662\u00bd\u2167",
    "DSC_0042.JPG",
    "\u0130stanbul \u00df \u01c5 \u0149 \ufb03 \uff21",
    "'\u017f a\u0345b \u0345 \u1e9b\u0323",
    "\u0394\u03a3 \u03a3\u0391\u03a3 e\u0301",
    "\x00 nul, \x1b[31mred\x1b[0m, \ufeff, \ufffd",
]
MOJIBAKE = "".join(
    chr(code)
    for code in range(0x80, 0x3000)
    if any(chr(code) in category for category in MOJIBAKE_CATEGORIES.values())
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MIXED = st.text(
    st.sampled_from(" aZs're5!&;<\n\t" + MOJIBAKE + "\u017f\u0345\u0301\u02bc\u200d\u3000\ufb01"),
    max_size=30,
)


@pytest.fixture(scope="module")
def peer(open_clip: Any) -> Any:
    return open_clip.tokenizer.SimpleTokenizer()


def its_ids(peer: Any, texts: list[str]) -> list[list[int]]:
    return [[SOT, *peer.encode(text)[:75], EOT] for text in texts]


def our_ids(texts: list[str], **options: Any) -> list[list[int]]:
    return [ids.tolist() for ids in encode_batch(texts, **options)]


def random_words(count: int) -> list[str]:
    """Captions of plausible words: letters, digits and punctuation mixed."""
    rng = random.Random(0)
    letters = "etaoinshrdlu" * 6 + "cmfygpwbvkxjqz" + "ETA0123456789.,'-/&!?()"
    return [
        " ".join("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(12))
        for _ in range(count)
    ]


@pytest.mark.parametrize("fast", [True, False])
def test_ids_are_open_clips(peer: Any, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_known = words.WordCache()
    monkeypatch.setattr(words, "_words", lambda: nothing_known)
    if not fast:
        monkeypatch.setattr(words, "_fast", lambda: None)
    texts = CAPTIONS + random_words(300)
    assert our_ids(texts) == its_ids(peer, texts)
    assert our_ids(texts) == its_ids(peer, texts), "now that all words are known"


def test_ids_of_real_captions_in_many_languages_are_open_clips(peer: Any) -> None:
    texts = list(islice(local_texts(), 3_000))
    assert sum(not text.isascii() for text in texts) > 300
    assert our_ids(texts) == its_ids(peer, texts)


@given(st.lists(st.one_of(ANY_TEXT, MIXED), max_size=5))
@settings(max_examples=150, deadline=None)
def test_ids_of_any_texts_are_open_clips(peer: Any, texts: list[str]) -> None:
    assert our_ids(texts) == its_ids(peer, texts)


def test_characters_of_every_script_are_split_and_merged_as_defined() -> None:
    codes = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs", "Cc")
        and (code < 0x3000 or code % 32 == 0)
    ]
    lines = [f"a{letter}b1{letter} '{letter}" for letter in map(str.lower, map(chr, codes))]
    ids, cuts = words.encode_lines(lines)
    for line, (first, stop) in zip(lines, pairwise(cuts.tolist()), strict=True):
        assert ids[first:stop].tolist() == [SOT, *encode_words(line), EOT], ascii(line)


def test_no_fixer_of_ftfy_touches_what_is_taken_for_untouched() -> None:
    everything = "".join(map(chr, range(0x20000)))
    kept = tokenizer._CURLY.sub("", tokenizer._TOUCHED.sub("", everything))
    for fixer in ("latin_ligatures", "character_width", "line_breaks", "surrogates", "c1_controls"):
        assert getattr(ftfy.fixes, f"fix_{fixer}")(kept) == kept
    assert ftfy.fixes.remove_control_chars(kept) == kept
    assert ftfy.fixes.uncurl_quotes(kept) == kept
    assert len(kept) > 0x1F000


def test_every_pair_of_characters_that_ftfy_takes_for_mojibake_has_the_clue() -> None:
    clue = tokenizer._ftfy().clue
    texts = [f"x{one}{two} " for one, two in product(MOJIBAKE, repeat=2)]
    bad = [text for text in texts if is_bad(text)]
    assert len(bad) > 10_000
    assert all(map(clue.search, bad))


@given(MIXED)
@settings(max_examples=500, deadline=None)
def test_what_ftfy_takes_for_mojibake_has_the_clue(text: str) -> None:
    assert not is_bad(text) or tokenizer._ftfy().clue.search(text)


@pytest.mark.parametrize("marker", OPENAI_MARKERS + OPEN_CLIP_MARKERS)
def test_marker_strings_in_a_caption_are_ordinary_text(marker: str) -> None:
    ids = encode_batch([f"before {marker} after"])[0].tolist()
    assert ids[0] == SOT and ids[-1] == EOT
    assert not {SOT, EOT} & set(ids[1:-1])
    assert ids[-2] == encode_batch(["after"])[0][1]


@given(
    st.lists(st.sampled_from([*OPEN_CLIP_MARKERS, "<", "a", " ", "<START_OF_TEXT>", "&lt;", "_"]))
)
@settings(max_examples=200, deadline=None)
def test_open_clips_markers_are_read_where_they_are_named(peer: Any, parts: list[str]) -> None:
    texts = ["a cat", "".join(parts), "a dog"]
    assert our_ids(texts, markers=OPEN_CLIP_MARKERS) == its_ids(peer, texts)


def test_openais_markers_are_read_where_they_are_named() -> None:
    texts = ["<|endoftext|> hi", "a <|StartOfText|>", "<start_of_text>"]
    first, second, third = our_ids(texts, markers=OPENAI_MARKERS)
    assert first == [SOT, EOT, 1883, EOT]
    assert second == [SOT, 320, SOT, EOT]
    assert third == our_ids(["<start_of_text>"])[0] and len(third) > 3


@pytest.mark.parametrize("length", [3, 8, 77])
def test_long_captions_end_with_the_end_marker(length: int) -> None:
    short, ids = encode_batch(["a", "word " * 100], length)
    assert len(ids) == length and ids[-1] == EOT and ids.dtype == np.uint16
    assert truncate(encode_batch(["word " * 100])[0], length).tolist() == ids.tolist()
    assert short.tolist() == encode_batch(["a"])[0].tolist()


def test_of_a_boundless_caption_only_what_its_ids_can_stand_for_is_looked_at(peer: Any) -> None:
    widest = "\U0001f60d" * 8  # one id
    texts = [widest * 90, (widest + " ") * 90, " " * 9_000 + "a cat", "a \t" * 5_000, "z" * 6_000]
    assert our_ids(texts) == its_ids(peer, texts)
    endless = "".join(random_words(1)[0].split()) * 20_000
    assert our_ids([endless])[0] == our_ids([endless[:10_000]])[0]


def _merged_plainly(word: str) -> list[int]:
    """As CLIP's own code does: the pair learned first, everywhere it stands, until none is left."""
    ids = [bpe._byte_ids()[byte] for byte in word.encode()]
    ids[-1] += 256
    while learned := [bpe._merges()[pair] for pair in pairwise(ids) if pair in bpe._merges()]:
        best, out = min(learned), []
        while ids:
            merges = len(ids) > 1 and bpe._merges().get((ids[0], ids[1])) == best
            out.append(best if merges else ids[0])
            ids = ids[2 if merges else 1 :]
        ids = out
    return ids


@given(st.text(st.sampled_from("aehnrstio\u00e9\u65e5\u672c\U0001f602"), min_size=1, max_size=60))
@settings(deadline=None)
def test_words_merge_as_defined_however_long(word: str) -> None:
    assert bpe.merge_word(word) == _merged_plainly(word)


def test_batches_of_any_size_give_the_rows_of_their_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [our_ids([text])[0] for text in CAPTIONS]
    monkeypatch.setattr(tokenizer, "BLOCK", 5)
    assert our_ids(CAPTIONS) == alone
    assert our_ids([]) == []


@pytest.mark.parametrize("limit", ["KEPT_WORDS", "KEPT_IDS"])
def test_words_are_forgotten_before_they_fill_the_memory(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = words.WordCache()
    monkeypatch.setattr(words, "_words", lambda: small)
    monkeypatch.setattr(words, limit, 500)
    monkeypatch.setattr(tokenizer, "BLOCK", 10)
    texts = random_words(400)
    rows = our_ids(texts)
    assert len(small._known) < 1000 and small._used < 3000
    assert rows == [[SOT, *encode_words(clean(text))[:75], EOT] for text in texts]


def test_words_that_share_their_slots_keep_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "SLOT_BITS", 4)
    crowded = words.WordCache()
    monkeypatch.setattr(words, "_words", lambda: crowded)
    texts = random_words(100)
    expected = [[SOT, *encode_words(clean(text))[:75], EOT] for text in texts]
    assert our_ids(texts) == expected
    assert our_ids(texts) == expected


def test_plain_ascii_is_cleaned_without_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise ConfigError("ftfy")

    monkeypatch.setattr(tokenizer, "_ftfy", absent)
    assert clean("  A  Photo & more") == "a photo & more"
    for text in ("a &amp; b", "caf\u00e9"):
        with pytest.raises(ConfigError):
            clean(text)


@given(st.one_of(ANY_TEXT, MIXED))
@settings(max_examples=300, deadline=None)
def test_cleaning_is_open_clips(open_clip: Any, text: str) -> None:
    assert clean(text) == open_clip.tokenizer.get_clean_fn("lower")(text)


def test_padding_is_zeros_up_to_the_longest_or_a_multiple() -> None:
    batch = encode_batch(["a", "a b c"])
    assert pad(batch).tolist() == [[*batch[0].tolist(), 0, 0], batch[1].tolist()]
    assert pad(batch, 8).shape == (2, 8)
    assert not pad(batch, 8)[:, 5:].any()
