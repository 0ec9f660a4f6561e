"""Ship ``configs/``, which stands beside the package, inside of it; everything else is said in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["l2nnn_lightning*"]), "l2nnn_lightning.configs"],
    package_dir={"l2nnn_lightning.configs": "configs"},
    package_data={"l2nnn_lightning": ["py.typed", "pretrained/*"], "l2nnn_lightning.configs": ["**/*.yaml"]},
)
