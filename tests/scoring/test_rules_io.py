"""Reading, checking and writing rules files, and the verdicts of the packaged rules."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.errors import BadInput
from validation.models.dnsmos import Dnsmos
from validation.models.silero import SileroVad
from validation.models.whisper.model import WhisperBase
from validation.scoring.rules_io import BadRules, check_columns, dump_condition, load_rules, parse_rules
from validation.scoring.verdict import Condition
from validation.shards.schema import shard_columns

PACKAGED = sorted(
    entry.name.removesuffix(".toml") for entry in (files("validation.scoring") / "rules").iterdir() if entry.is_file()
)
LOCAL_MODELS = {model.name: model.columns for model in (WhisperBase, Dnsmos, SileroVad)}
TYPES = {column.name: column.type for column in shard_columns(LOCAL_MODELS)}

GOOD_SEGMENT = {
    "language": "en",
    "language_code": "en",
    "latin_fraction": 1.0,
    "duration_s": 6.0,
    "rms_dbfs": -24.0,
    "clipped_fraction": 0.0,
    "text_normalised": "he was not an ill disposed young man",
    "script_fraction": 1.0,
    "chars_per_s": 12.0,
    "cer": 0.05,
    "language_votes_for": 1,
    "language_votes_against": 0,
    "whisper_language_p": 0.97,
    "whisper_declared_p": 0.97,
    "whisper_align_tok": -0.4,
    "whisper_align_min": -2.1,
    "whisper_align_stretch": -1.5,
    "whisper_greedy_lp": -0.2,
    "flat_fraction": 0.0,
    "bandwidth_hz": 7200.0,
    "edge_start_db": -30.0,
    "edge_end_db": -30.0,
    "edge_cer_start": 0.0,
    "edge_cer_end": 0.0,
    "repeated_letters": 0,
    "repeated_fraction": 0.0,
    "roman_cer": 0.05,
    "roman_word_cer": 0.2,
    "heard_ratio": 1.0,
    "heard_inserted_run": 1.0,
    "heard_compression": 0.9,
    "dnsmos_bak": 3.9,
    "dnsmos_ovr": 3.1,
    "silero_speech_ratio": 0.8,
}


def rules_text(*, top: str = 'version = "v"\nrequired_models = []', **rule: str) -> str:
    """The text of a rules file with one rule, whose keys may be replaced or, with an empty value, left out."""
    keys = {
        "reason": '"noisy"',
        "verdict": '"review"',
        "sentence": '"It is loud."',
        "when": '[{ column = "cer", op = "<", value = 1 }]',
    } | rule
    return f"{top}\n[[rules]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items() if value)


def test_every_packaged_file_is_named_after_its_version():
    """Rules can be loaded by the `rules_version` of a shard."""
    assert PACKAGED
    assert all(load_rules(name).version == name for name in PACKAGED)


def test_an_unknown_rules_name_lists_the_known_names():
    """The error names the rules files that exist."""
    with pytest.raises(BadInput, match=r"no rules are called 'local-0'; known are .*local-1"):
        load_rules("local-0")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[", "rules my.toml: syntax: "),
        (rules_text(top='version = "v"'), "rules my.toml: key required_models: Field required"),
        (rules_text(top='version = "v"\nrequired_models = []\nextra = 1'), "key extra: Extra inputs"),
        (rules_text(verdict='"maybe"'), r"rule 1 \(noisy\), key verdict: Input should be 'review' or 'reject'"),
        (rules_text(verdict='"accept"'), r"rule 1 \(noisy\), key verdict: "),
        (rules_text(reason=""), "rule 1, key reason: Field required"),
        (rules_text(reason='"Too Loud"'), r"rule 1 \(Too Loud\), key reason: "),
        (rules_text(sentence='""'), r"rule 1 \(noisy\), key sentence: "),
        (rules_text(when="[]"), r"rule 1 \(noisy\), key when: "),
        (rules_text(when='[{ column = "cer", op = "~", value = 1 }]'), r"key when.0.op: Input should be '<'"),
        (rules_text(when='[{ column = "cer", op = "<" }]'), "key when.0: operator < takes a value"),
        (rules_text(when='[{ column = "cer", op = "missing", value = 1 }]'), "operator missing takes no value"),
        (rules_text(when='[{ column = "cer", op = "<", value = "1" }]'), "operator < takes a number, not '1'"),
        (rules_text(when='[{ column = "cer", op = ">", value = true }]'), "operator > takes a number, not True"),
        (rules_text(when='[{ column = "cer", op = "<", value = nan }]'), "nan compares with nothing"),
        (rules_text(when='[{ column = "cer", op = "<", value = 1, unit = "s" }]'), "key when.0.unit: Extra inputs"),
    ],
)
def test_a_bad_file_is_refused_naming_file_rule_and_key(text, complaint):
    """A rule that would silently never match is an error when the file is read."""
    with pytest.raises(BadRules, match=complaint):
        parse_rules(text, "my.toml")


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        (
            'column = "whisper_align_token", op = "<", value = 0',
            "no column whisper_align_token; the nearest is whisper_",
        ),
        ('column = "cer", op = "==", value = "a"', "rule noisy: column cer is of type float, 'a' is not"),
        ('column = "text", op = "<", value = 1', "column text is of type str, 1 is not"),
        ('column = "has_digits", op = "==", value = 1', "column has_digits is of type bool, 1 is not"),
        ('column = "cer", op = "==", value = true', "column cer is of type float, True is not"),
    ],
)
def test_rules_that_do_not_fit_the_columns_are_refused(condition, complaint):
    """A misspelt column would make a rule that never matches."""
    with pytest.raises(BadRules, match=complaint):
        check_columns(parse_rules(rules_text(when=f"[{{ {condition} }}]"), "my.toml"), TYPES)


def test_a_required_model_that_is_not_in_the_suite_is_refused():
    """Rules that require a model are refused for a suite without that model."""
    rules = parse_rules(rules_text(top='version = "v"\nrequired_models = ["mms"]'), "my.toml")
    with pytest.raises(BadRules, match="rule unscored:mms: no column mms_fault"):
        check_columns(rules, TYPES)


# --- the rules of the local suite -------------------------------------------------------------------------------


FAULTS = [
    ({"whisper_align_tok": -5.2, "cer": 0.9}, "reject", ("transcript_mismatch",)),
    ({"whisper_align_tok": -5.2, "cer": 0.3}, "review", ("transcript_mismatch",)),
    ({"whisper_align_stretch": -20.0}, "review", ("word_mismatch",)),
    ({"whisper_align_stretch": -90.0, "cer": 0.98}, "accept", ()),
    ({"whisper_align_stretch": -9.0, "roman_word_cer": 1.0}, "review", ("word_mismatch",)),
    ({"whisper_align_stretch": -9.0}, "accept", ()),
    ({"heard_inserted_run": 6.0}, "review", ("word_mismatch",)),
    ({"heard_inserted_run": 2.0, "whisper_align_stretch": -11.0}, "review", ("word_mismatch",)),
    ({"heard_inserted_run": 2.0, "whisper_align_stretch": -9.0}, "accept", ()),
    ({"heard_ratio": 2.0}, "review", ("partial_transcript",)),
    ({"repeated_letters": 30, "repeated_fraction": 0.5}, "review", ("repeated_transcript",)),
    ({"repeated_letters": 6, "repeated_fraction": 0.5}, "accept", ()),
    ({"roman_cer": 0.9}, "review", ("not_understood",)),
    ({"roman_cer": 0.65}, "review", ("not_understood",)),
    ({"roman_cer": 0.65, "language": "ja", "language_code": "ja"}, "accept", ()),
    ({"whisper_greedy_lp": -1.6, "roman_cer": 0.55, "cer": 0.7}, "review", ("not_understood",)),
    ({"whisper_greedy_lp": -1.6}, "accept", ()),
    ({"heard_compression": 3.0}, "review", ("not_understood",)),
    ({"edge_end_db": 1.0, "edge_cer_end": 0.5}, "review", ("cut_off",)),
    ({"edge_start_db": 1.0, "edge_cer_start": 0.5}, "review", ("cut_off",)),
    ({"edge_start_db": 1.0, "edge_end_db": 1.0}, "accept", ()),
    ({"bandwidth_hz": 3500.0}, "review", ("narrow_band",)),
    ({"dnsmos_bak": 2.8}, "review", ("noisy",)),
    ({"dnsmos_ovr": 2.0}, "review", ("noisy",)),
    ({"whisper_align_tok": -1.7, "cer": 0.9}, "accept", ()),
    (
        {"language_votes_for": 0, "language_votes_against": 1, "whisper_declared_p": 0.001},
        "reject",
        ("wrong_language",),
    ),
    (
        {"language_votes_for": 0, "language_votes_against": 1, "whisper_declared_p": 0.2},
        "review",
        ("wrong_language",),
    ),
    ({"language_votes_for": 0, "whisper_declared_p": None}, "accept", ()),
    ({"dnsmos_bak": 1.3, "dnsmos_ovr": 1.2}, "reject", ("noisy",)),
    ({"silero_speech_ratio": 0.0}, "reject", ("no_speech",)),
    ({"rms_dbfs": -120.0, "silero_speech_ratio": 0.0}, "reject", ("no_speech",)),
    ({"flat_fraction": 0.05}, "review", ("clipped",)),
    ({"chars_per_s": 60.0}, "reject", ("too_fast",)),
    ({"chars_per_s": 0.5}, "review", ("too_slow",)),
    (
        {
            "text_normalised": "",
            "chars_per_s": 0.0,
            "script_fraction": None,
            "cer": None,
            "roman_cer": None,
            "whisper_align_tok": None,
        },
        "reject",
        ("empty_transcript",),
    ),
    ({"script_fraction": 0.0}, "reject", ("wrong_script",)),
    ({"script_fraction": 0.6, "latin_fraction": 0.0}, "review", ("wrong_script",)),
    ({"script_fraction": 0.6, "latin_fraction": 0.4}, "review", ("code_mixed",)),
    ({"language": None, "language_code": None}, "review", ("missing_language",)),
    ({"language": "", "language_code": None}, "review", ("missing_language",)),
    ({"language": "klingonish", "language_code": None}, "review", ("unknown_language",)),
    ({"whisper_align_tok": None, "cer": None}, "review", ("unjudged",)),
    ({"roman_cer": None}, "review", ("unjudged",)),
    (
        {"dnsmos_fault": "model_failed: boom", "dnsmos_bak": None, "dnsmos_ovr": None},
        "review",
        ("unscored:dnsmos",),
    ),
    ({"fault": "undecodable: no codec", "whisper_align_tok": None}, "reject", ("undecodable",)),
]
"""Changes to a good segment, and the verdict and reasons that must follow."""


def test_the_local_rules_fit_the_local_columns():
    """Every column that the rules read exists, with the expected type."""
    check_columns(load_rules("local-3"), TYPES)


def test_a_good_segment_is_accepted():
    """Well recorded read speech with its own transcript is accepted."""
    assert load_rules("local-3").evaluate(GOOD_SEGMENT).verdict == "accept"


@pytest.mark.parametrize(
    ("change", "verdict", "reasons"),
    FAULTS,
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_fault_has_its_reason(change, verdict, reasons):
    """One fault in a good segment gives its own reason and no other."""
    judged = load_rules("local-3").evaluate(GOOD_SEGMENT | change)
    assert (judged.verdict, judged.reasons) == (verdict, reasons)


def test_every_local_rule_matches_in_the_table():
    """Every rule of the file matches at least one segment of the table above."""
    rules = load_rules("local-3")
    fired = {rule for change, *_ in FAULTS for rule in rules.rules if rule.matches(GOOD_SEGMENT | change)}
    silent = [rule.sentence for rule in rules.rules if rule not in fired]
    assert not silent


# --- writing conditions ----------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
CONDITIONS = st.one_of(
    st.builds(
        Condition,
        column=TEXT,
        op=st.sampled_from(["<", ">="]),
        value=NUMBERS,
        by_language=st.dictionaries(TEXT, NUMBERS.map(float), max_size=2),
    ),
    st.builds(Condition, column=TEXT, op=st.sampled_from(["==", "!="]), value=NUMBERS | TEXT | st.booleans()),
    st.builds(Condition, column=TEXT, op=st.sampled_from(["missing", "present"])),
)


@given(st.lists(CONDITIONS, min_size=1, max_size=3))
def test_dumped_conditions_are_read_back_unchanged(conditions):
    """Every text and every number survive, to the last bit, limits by language included."""
    when = "[" + ", ".join(map(dump_condition, conditions)) + "]"
    assert parse_rules(rules_text(when=when), "x").rules[0].when == tuple(conditions)


# --- the rules of the production suite --------------------------------------------------------------------------

INDIC_SEGMENT = {
    "language": "hin",
    "language_code": "hi",
    "duration_s": 1.2,
    "script_fraction": 1.0,
    "latin_fraction": 0.0,
    "text_normalised": "नमस्ते दुनिया",
    "language_votes_for": 2,
    "language_votes_against": 0,
    "mms_declared_p": 0.9,
    "conformer_align_tok": -0.1,
    "conformer_greedy_tok": -0.1,
    "roman_cer": 0.1,
    "heard_compression": 0.9,
}


EVIDENCE = {
    "local-3": ("whisper", "whisper_align_tok", "whisper_greedy_lp"),
    "indic-2": ("conformer", "conformer_align_tok", "conformer_greedy_tok"),
}


@pytest.mark.parametrize("version", EVIDENCE)
@given(
    roman_cer=st.none() | st.floats(0, 3),
    confidence=st.none() | st.floats(-5, 0),
    align=st.none() | st.floats(-5, 0.1),
    compression=st.none() | st.floats(0.5, 20),
)
def test_nothing_is_accepted_without_positive_evidence(version, roman_cer, confidence, align, compression):
    """An accepted segment has a recognised text without a loop, like the transcript, heard with confidence or alike."""
    _, align_column, confidence_column = EVIDENCE[version]
    good = GOOD_SEGMENT if version == "local-3" else INDIC_SEGMENT
    signals = good | {"roman_cer": roman_cer, "heard_compression": compression}
    signals |= {align_column: align, confidence_column: confidence if align is not None else None}
    if load_rules(version).evaluate(signals).verdict == "accept":
        assert roman_cer is not None
        assert roman_cer < 0.6
        assert align is not None
        assert confidence is None or confidence >= -1.2 or (version == "local-3" and roman_cer < 0.5)
        assert compression is None or compression <= 2.4


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({}, ()),
        ({"language_votes_for": 1, "language_votes_against": 2, "mms_declared_p": 0.6}, ()),
        ({"language_votes_for": 1, "language_votes_against": 2, "mms_declared_p": 0.3}, ("wrong_language",)),
        ({"language_votes_for": 0, "language_votes_against": 1, "mms_declared_p": 0.3}, ()),
        ({"language_votes_for": 0, "language_votes_against": 1, "mms_declared_p": 0.1}, ("wrong_language",)),
        ({"language_votes_for": 1, "language_votes_against": 1, "mms_declared_p": None}, ("wrong_language",)),
        ({"duration_s": 3.0, "language_votes_for": 0, "language_votes_against": 1}, ("wrong_language",)),
    ],
)
def test_lid_votes_on_short_segments_need_a_low_probability(change, reasons):
    """Below two seconds the declared language's probability decides, not the first choices alone."""
    assert load_rules("indic-2").evaluate(INDIC_SEGMENT | change).reasons == reasons


def test_code_mixing_is_no_transcript_mismatch():
    """A transcript with Latin words goes to review as code-mixed and is never rejected as another's transcript."""
    mixed = INDIC_SEGMENT | {"script_fraction": 0.7, "latin_fraction": 0.3, "conformer_align_tok": -2.4, "cer": 0.6}
    verdict = load_rules("indic-2").evaluate(mixed)
    assert verdict.verdict == "review"
    assert "code_mixed" in verdict.reasons


@pytest.mark.parametrize(("declared", "verdict"), [("hi", "reject"), ("en", "review")])
def test_english_that_no_model_hears_is_reviewed_and_not_rejected(declared, verdict):
    """English with an Indian accent is a known confusion of LID models; any other language is rejected."""
    unheard = {"language": declared, "language_code": declared, "duration_s": 6.0}
    votes = {"language_votes_for": 0, "language_votes_against": 2, "mms_declared_p": 0.01}
    judged = load_rules("indic-2").evaluate(INDIC_SEGMENT | unheard | votes)
    assert (judged.verdict, judged.reasons) == (verdict, ("wrong_language",))
