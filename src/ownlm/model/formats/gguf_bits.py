"""What the decoders of GGUF's blocks share."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def half(stored: Bytes) -> Floats:
    """float16 numbers in the last dimension's bytes, two each, as float32."""
    return np.ascontiguousarray(stored).view("<f2").astype(np.float32)
