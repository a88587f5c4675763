"""Check a HyperPyYAML file before it is loaded: its tags construct objects and call functions."""

from pathlib import Path

import yaml

from validation.errors import BadInput

_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))
_ALLOWED = _PLAIN | {
    "!ref",
    "!copy",
    "!tuple",
    "!name:torch.nn.LeakyReLU",
    "!new:speechbrain.dataio.encoder.CategoricalEncoder",
    "!new:speechbrain.lobes.features.Fbank",
    "!new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN",
    "!new:speechbrain.lobes.models.Xvector.Classifier",
    "!new:speechbrain.processing.features.InputNormalization",
    "!new:speechbrain.utils.parameter_transfer.Pretrainer",
}
"""What the hyperparams.yaml of VoxLingua107 constructs. A tag that is added here must run nothing from the folder."""


class ConstructsMore(BadInput):
    """A weights folder would construct an object or call a function that its model does not need."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        super().__init__(f"{path} is not loaded: {what}; download the weights again from their source")


def check_hyperparams(folder: Path) -> None:
    """Check that ``hyperparams.yaml`` constructs the known objects only, and that the folder holds no Python module.

    Raises:
        ConstructsMore: it constructs another object, calls a function, or includes a file.
        BadInput: it is not YAML.
    """
    for module in sorted(folder.rglob("*.py")):
        raise ConstructsMore(module, "a weights folder holds no Python module, and speechbrain would import it")
    path = folder / "hyperparams.yaml"
    try:
        events = list(yaml.parse(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not YAML: {error}") from None
    for event in events:
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _ALLOWED:
            mark = event.start_mark
            place = f"line {mark.line + 1}" if mark else "a line"
            raise ConstructsMore(path, f"{place} has the tag {tag}, which is not on the list")
