def test_no_two_languages_of_whisper_share_a_code(models):
    """Whisper names 99 languages and all 99 codes differ, so no probability is added to another language's."""
    assert len(models["whisper"].languages) == 99
    assert models["whisper"].languages >= {"as", "bn", "gu", "hi", "jv", "kn", "ml", "mr", "ne", "pa", "ta", "te", "ur"}
    assert not models["whisper"].languages & {"or", "brx", "jw", "kok", "mai"}
