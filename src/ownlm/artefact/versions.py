"""The versions and the machine that a card names: enough to repeat a run, nothing private."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

_NAMED = ("ownlm", "torch", "numpy", "tokenizers", "safetensors")


def package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _NAMED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def machine_facts() -> dict[str, str | int]:
    """System, processor family and thread count; never a host or user name."""
    return {"system": platform.system(), "processor": platform.machine(), "cpus": os.cpu_count() or 1}
