"""Arrays from NPY and NPZ files, which may be anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by their names; that of an .npy file by "".

    Objects in it are not made: it would run their code.

    Raises:
        ValueError: it is neither, or damaged; names the file.
        OSError: it cannot be read.
    """
    with file.open("rb") as raw:  # NumPy leaves open what is no whole archive
        try:
            loaded = np.load(raw, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            with loaded:
                return dict(loaded)
        except OSError as error:
            if error.strerror:
                raise
            raise ValueError(f"{file}: {error}") from None
        except Exception as error:  # a broken archive shows in many ways
            pickled = "no such file, or with pickled objects, which are not opened"
            reason = pickled if "pickle" in str(error) else f"{error!s:.200}"
            raise ValueError(f"{file}: not arrays of numbers: {reason}") from None
