"""Where configs are: as they are given, beside the package in a checkout, or inside an installed package."""

import difflib
from argparse import ArgumentError
from pathlib import Path

__all__ = ["DEFAULT_CONFIG", "config_folder", "config_names", "find_config"]

DEFAULT_CONFIG = "configs/mnist5k.yaml"


def config_folder() -> Path:
    """Return the folder of the configs that come with the package."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """List what comes with the package and can be trained, by name: ``mnist5k`` for ``configs/mnist5k.yaml``."""
    return sorted(path.stem for path in config_folder().glob("*.yaml") if path.stem != "sweep")


def find_config(given: str) -> str:
    """Find a config: a file as it is given from here, else one that comes with the package.

    Args:
        given: a path, ``configs/mnist.yaml`` from any folder, or a name: ``mnist``, ``overlays/mnist5k``.

    Raises:
        ArgumentError: if there is none, with the nearest name.

    Example:
        >>> find_config("mnist5k") == str(config_folder() / "mnist5k.yaml")
        True
    """
    if Path(given).is_file():
        return given
    name = given.removeprefix("configs/").removesuffix(".yaml")
    shipped = config_folder() / f"{name}.yaml"
    if shipped.is_file() and config_folder() in shipped.resolve().parents:
        return str(shipped)
    close = difflib.get_close_matches(Path(name).name, config_names(), n=1)
    meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(config_names())}"
    raise ArgumentError(None, f"there is no config {given}: {meant}")
