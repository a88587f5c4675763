"""Whisper base as language identifier and recogniser."""
