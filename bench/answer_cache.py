"""Cache the answers of a suite on disk, so that rules can be tuned without running the models again."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from validation.domain import Answer, Fault, Scored, Unscored, Utterance
from validation.models.suite import Suite, load_suite
from validation.scoring.signals import SuiteRoles

BATCH = 16
"""Number of utterances that are scored at a time. An interruption loses at most the answers of one batch."""


class CachedSuite:
    """A suite that scores only the utterances whose answers are not in its file yet.

    The file has one line of JSON per utterance. Its name has a hash of the model revisions and columns, so that other
    models use another file.
    """

    def __init__(self, name: str, folder: Path, *, threads: int | None = None) -> None:
        self._name, self._folder, self._threads = name, folder, threads

    @cached_property
    def suite(self) -> Suite:
        return load_suite(self._name, threads=self._threads)

    @property
    def roles(self) -> SuiteRoles:
        return self.suite.roles

    @cached_property
    def path(self) -> Path:
        columns = {model: [column.name for column in own] for model, own in self.suite.columns.items()}
        key = json.dumps([dict(self.suite.revisions), columns], sort_keys=True)
        return self._folder / f"answers-{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsonl"

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Return the same answers as ``Suite.score``, and write new answers to the file."""
        known, keys = self._read(), [key_of(utterance) for utterance in utterances]
        missing = [place for place, key in enumerate(keys) if key not in known]
        for start in range(0, len(missing), BATCH):
            places = missing[start : start + BATCH]
            answers = self.suite.score([utterances[place] for place in places])
            self.write([(keys[place], answer) for place, answer in zip(places, answers, strict=True)])
            known |= {keys[place]: answer for place, answer in zip(places, answers, strict=True)}
        return [known[key] for key in keys]

    def are_scored(self, utterances: Sequence[Utterance]) -> list[bool]:
        """Return for each utterance whether its answer is in the file."""
        known = self._read()
        return [key_of(utterance) in known for utterance in utterances]

    def write(self, answers: Sequence[tuple[str, dict[str, Answer]]]) -> None:
        """Append answers to the file. Each answer has the key of its utterance."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([key, _to_json(answer)], ensure_ascii=False) + "\n" for key, answer in answers)

    def _read(self) -> dict[str, dict[str, Answer]]:
        if not self.path.exists():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return {key: _from_json(answer) for key, answer in map(json.loads, lines)}


def key_of(utterance: Utterance) -> str:
    """Return a hash of an utterance's samples, transcript and language."""
    told = json.dumps([utterance.text, utterance.language]).encode()
    return hashlib.sha256(utterance.audio.tobytes() + told).hexdigest()


def _to_json(answers: dict[str, Answer]) -> dict[str, object]:
    return {
        model: dict(each.values) if isinstance(each, Scored) else {"fault": [each.fault.kind, each.fault.message]}
        for model, each in answers.items()
    }


def _from_json(answers: dict[str, dict[str, object]]) -> dict[str, Answer]:
    return {
        model: Unscored(Fault(*values["fault"])) if "fault" in values else Scored(values)
        for model, values in answers.items()
    }
