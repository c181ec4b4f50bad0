"""Float16 numbers as float32, some times as fast as by NumPy."""

import numpy as np

SIGN_AND_VALUE = np.int32(-0x70002000)
"""The bits that a float16 number has in a float32 number, after its 16 bits are shifted by 13: all but three copies of
the sign, and 13 bits at the end."""

EXPONENT_SHIFT = np.float32(2.0**112)
"""The same exponent bits stand for numbers that are smaller by this factor in float32."""


def to_float32(halves: np.ndarray) -> np.ndarray:
    """Turns an array of finite float16 numbers into float32, exactly. It should fit into the cache of a core."""
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= SIGN_AND_VALUE
    numbers = bits.view(np.float32)
    numbers *= EXPONENT_SHIFT
    return numbers
