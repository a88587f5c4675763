"""The errors of shards: rows that break the format, and stored files that differ from what was committed."""

from validation.errors import Permanent


class ShardRefused(Permanent):
    """Rows break a rule of the format. Nothing was written."""

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"no shard was written: {place}: {problem}")


class ShardCorrupt(Permanent):
    """A stored shard or manifest is not what was committed."""

    def __init__(self, key: str, fact: str, *, expected: object, found: object) -> None:
        self.key, self.fact, self.expected, self.found = key, fact, expected, found
        super().__init__(f"{key}: {fact} should be {expected}, is {found}")
