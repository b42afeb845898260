"""Is there a C++ compiler, which torch.compile needs on a processor?"""

import os
import shutil


def has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))
