"""The tokenizer against open_clip's, and where it differs on purpose."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import tokenizer
from trainer.tokenizer import EOT, SOT, clean, encode_batch, pad, truncate

CAPTIONS = [
    "a photo of a cat",
    "  Two   spaces\tand a tab ",
    "Don't we'll they'RE I'd it's I'm you've",
    "iPhone 14 Pro Max 256GB - $1,099.00!!! #deal @shop",
    "caf\u00e9 cr\u00e8me, na\u00efve fa\u00e7ade",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; AT&amp;T",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dash \u2026",
    "sch\u00c3\u00b6n mojibake",
    "\u732b\u304c\u5bdd\u3066\u3044\u308b 2023\u5e74",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u0437\u0438\u043c\u043e\u0439",
    "\U0001f600 smile \U0001f469\u200d\U0001f4bb",
    "",
    "!",
    "x" * 300,
    "word " * 200,
    "line\nbreak\r\nand\u00a0nbsp",
    "1234567890 3.14159",
    "DSC_0042.JPG",
    "\u0130stanbul \u00df \u01c5",
]


def reference(open_clip: Any, texts: list[str]) -> list[list[int]]:
    """open_clip's rows up to and with the first end marker."""
    rows = open_clip.tokenizer.SimpleTokenizer()(texts).numpy()
    return [row[: int(row.argmax()) + 1].tolist() for row in rows]


def words(count: int) -> list[str]:
    """Captions of plausible words: letters, digits and punctuation mixed."""
    rng = random.Random(0)
    letters = "etaoinshrdlu" * 6 + "cmfygpwbvkxjqz" + "ETA0123456789.,'-/&!?()"
    return [
        " ".join("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(12))
        for _ in range(count)
    ]


@pytest.mark.parametrize("fast", [True, False])
def test_ids_are_open_clips(open_clip: Any, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(tokenizer, "_fast", lambda: None)
    texts = CAPTIONS + words(300)
    ours = [ids.tolist() for ids in encode_batch(texts)]
    assert ours == reference(open_clip, texts)


@given(st.text(st.characters(max_codepoint=126, exclude_categories=()), max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_fast_path_gives_the_ids_of_the_plain_one(text: str) -> None:
    pytest.importorskip("instant_clip_tokenizer")
    fast = encode_batch([text])[0].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_fast", lambda: None)
        assert encode_batch([text])[0].tolist() == fast


@pytest.mark.parametrize(
    "marker", ["<|startoftext|>", "<|endoftext|>", "<start_of_text>", "<end_of_text>"]
)
def test_marker_strings_in_a_caption_are_ordinary_text(marker: str) -> None:
    ids = encode_batch([f"before {marker} after"])[0].tolist()
    assert ids[0] == SOT and ids[-1] == EOT
    assert not {SOT, EOT} & set(ids[1:-1])
    assert ids[-2] == encode_batch(["after"])[0][1]


@pytest.mark.parametrize("length", [3, 8, 77])
def test_long_captions_end_with_the_end_marker(length: int) -> None:
    (ids,) = encode_batch(["word " * 100], length)
    assert len(ids) == length and ids[-1] == EOT and ids.dtype == np.uint16
    assert truncate(encode_batch(["word " * 100])[0], length).tolist() == ids.tolist()


def test_printable_ascii_is_cleaned_without_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise ImportError("ftfy")

    monkeypatch.setattr(tokenizer, "_ftfy", absent)
    assert clean("  A  Photo ") == "a photo"
    with pytest.raises(ImportError):
        clean("a &amp; b")


def test_padding_is_zeros_up_to_the_longest() -> None:
    batch = encode_batch(["a", "a b c"])
    assert pad(batch).tolist() == [[*batch[0].tolist(), 0, 0], batch[1].tolist()]
