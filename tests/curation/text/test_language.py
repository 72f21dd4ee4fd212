"""Language: long captions by the model, short ones by the benefit of the doubt."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curation
from curation.text.language import LanguageParams, LanguageReason, language
from pipeline.dataset.verdict import VERDICT
from tests.support.verdicts import dropped, on_captions, reasons

judged = on_captions(language, LanguageParams)


def test_the_model_is_the_published_one() -> None:
    model = Path(curation.__file__).parent / "text" / "assets" / "lid.176.ftz"
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert digest == "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"


ENGLISH = [
    "grinning face",
    "red apple",
    "Kazakhstan flag emoji",
    "dog",
    "sunflower",
    "woman and man holding hands",
    "Eiffel Tower at night",
    "red apple on a table",
    "a black cat sleeping on a red sofa in the afternoon",
]
OTHER = {
    "de": "ein roter Apfel liegt auf dem Tisch",
    "fr": "un chat noir dort sur une table",
    "es": "una manzana roja sobre la mesa",
    "nl": "een rode appel ligt op de tafel",
    "pl": "czerwone jab\u0142ko na stole",
}
SCRIPTS = {
    "ru": "\u043a\u0440\u0430\u0441\u043d\u043e\u0435 \u044f\u0431\u043b\u043e\u043a\u043e",
    "zh": "\u684c\u5b50\u4e0a\u7684\u7ea2\u82f9\u679c",
    "ja": "\u8d64\u3044\u308a\u3093\u3054\u304c\u3042\u308a\u307e\u3059",
    "el": "\u03ba\u03cc\u03ba\u03ba\u03b9\u03bd\u03bf \u03bc\u03ae\u03bb\u03bf",
}


def test_english_captions_of_any_length_are_kept() -> None:
    assert reasons(judged(*ENGLISH)) == [None] * len(ENGLISH)


@pytest.mark.parametrize("code", OTHER)
def test_other_languages_are_named(code: str) -> None:
    [verdict] = dropped(judged(OTHER[code]))
    assert (verdict["reason"], verdict["evidence"]) == ("other_language", code)
    assert verdict["value"] < verdict["threshold"] == 0.2


@pytest.mark.parametrize("code", SCRIPTS)
def test_other_scripts_need_no_model(code: str) -> None:
    [row] = judged(SCRIPTS[code]).to_pylist()
    assert (row["verdict"]["reason"], row["language"]) == ("other_script", code)
    assert (row["verdict"]["value"], row["verdict"]["threshold"]) == (0.0, 0.5)


def test_a_sure_rival_wins_over_a_short_caption() -> None:
    [verdict] = dropped(judged("Berlin"))
    assert (verdict["reason"], verdict["evidence"]) == ("other_language", "de")
    assert verdict["value"] >= verdict["threshold"] == 0.5
    assert reasons(judged("Berlin", max_rival_score=0.9)) == [None]


def test_a_high_bound_makes_english_uncertain() -> None:
    assert reasons(judged("red apple on a table", min_score=0.9)) == ["uncertain_language"]


def test_the_kept_languages_are_a_choice() -> None:
    assert reasons(judged(*OTHER.values(), keep=tuple(OTHER))) == [None] * len(OTHER)
    assert reasons(judged(*SCRIPTS.values(), keep=tuple(SCRIPTS))) == [None] * len(SCRIPTS)
    assert reasons(judged(ENGLISH[-1], keep=("ru", "de"))) == ["other_language"]


def test_the_language_and_its_probability_are_columns() -> None:
    table = judged("a black cat sleeping on a red sofa", OTHER["de"])
    assert table["language"].to_pylist() == ["en", "de"]
    assert table.schema.field("language_score").type == pa.float32()
    assert all(0.5 < score <= 1 for score in table["language_score"].to_pylist())


@given(st.lists(st.one_of(st.none(), st.text()), max_size=20))
def test_rows_are_conserved_and_reasons_closed_for_any_text(texts: list[str | None]) -> None:
    table = judged(*texts)
    assert table.drop_columns(["language", "language_score", "verdict"]).to_pylist() == [
        {"row": row, "caption": text} for row, text in enumerate(texts)
    ]
    assert table.schema.field("verdict").type == VERDICT
    for row in table.to_pylist():
        assert 0 <= row["language_score"] <= 1
        assert row["verdict"] is None or row["verdict"]["reason"] in set(LanguageReason)


def test_the_answer_for_a_row_does_not_depend_on_its_neighbours() -> None:
    texts = ENGLISH + list(OTHER.values())
    together = judged(*texts)["language_score"].to_pylist()
    assert together == [judged(text)["language_score"][0].as_py() for text in texts]
