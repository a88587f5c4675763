"""A worker's languages select the labels that scoring reads as those languages."""

import pytest
from sqlalchemy import text

from tests.support.ledger_helpers import claim, fetch
from validation.domain import Video
from validation.languages import _codes, _names, list_language_spellings, normalize_language_code
from validation.ledger.chunks import peek_videos
from validation.ledger.seed import seed_videos

HINDI = ["hi", "hin", "HI", "hi-IN", "hi_Deva_IN", "Hindi", "HINDI", "Hindi (India)", " hi "]
OTHER = ["ta", "hy", "h", "hindu", "", None, "klingonish", "und"]


@pytest.mark.parametrize("wanted", ["hi", "hin", "Hindi", "hi-IN"])
def test_claim_matches_every_spelling(ledger, seed, wanted):
    """However the setting and the queue spell a language, claim and preflight find its videos and no others."""
    seed(0)
    seed_videos(ledger, [Video(f"v{n}", label, 1) for n, label in enumerate([*HINDI, *OTHER])])
    assert {video.language for video in peek_videos(ledger, "ann", languages=[wanted], count=10)} == set(HINDI)
    assert {video.language for video in claim(ledger, languages=[wanted]).videos} == set(HINDI)


@pytest.mark.parametrize(
    "language", ["hi", "ta", "te", "bn", "mr", "kn", "ml", "gu", "pa", "or", "as", "ur", "en", "zh"]
)
def test_ledger_and_scoring_read_labels_alike(ledger, language):
    """For every code and name of the table, alone and with a region, the ledger matches what scoring normalises."""
    labels = [f"{label}{end}" for label in {*_codes(), *_names()} for end in ("", "-IN", "_x_y", " (India)")]
    asked = {"labels": [*labels, *map(str.upper, labels)], "spellings": list_language_spellings([language])}
    statement = (
        "SELECT label FROM unnest(CAST(:labels AS text[])) label WHERE validation.is_language(label, :spellings)"
    )
    with ledger.connect() as connection:
        matched = set(connection.execute(text(statement), asked).scalars())
    assert matched == {label for label in asked["labels"] if normalize_language_code(label) == language}


def test_no_languages_take_every_label(ledger, seed):
    """Without the setting, videos without a label are claimed too."""
    seed(0)
    seed_videos(ledger, [Video(f"v{n}", label, 1) for n, label in enumerate(OTHER)])
    assert len(claim(ledger, languages=[]).videos) == len(OTHER)
    assert fetch(ledger, "SELECT count(*) FROM video_queue WHERE validation_status = 'pending'") == [(0,)]
