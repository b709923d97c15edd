"""What pyproject.toml cannot say: the checkout's folder of configs is in a wheel the package xmodal_jax.configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["xmodal_jax*"]), "xmodal_jax.configs"],
    package_dir={"xmodal_jax.configs": "configs"},
)
