"""Fixed filters in front of a circuit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FilterBank:
    """Fixed rectifying filters at a grid of positions, such as the known first layer of a retina.

    Parameters
    ----------
    kernels
        ``(n_kernels, height, width)``.
    biases
        ``(n_kernels,)``, added to the filter's output before rectification.
    stride
        Distance between neighbouring windows in pixels. Windows start at multiples of it; where the last window extends
        beyond the image, the image is padded with zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from flda.circuits import FilterBank
    >>> bank = FilterBank(np.ones((1, 3, 3)), np.array([-4.0]), stride=2)
    >>> bank.transform(np.ones((1, 4, 4))).tolist()
    [[5.0, 2.0, 2.0, 0.0]]
    """

    kernels: np.ndarray
    biases: np.ndarray
    stride: int

    def transform(self, stimuli: np.ndarray) -> np.ndarray:
        """Compute the filter responses to images.

        Parameters
        ----------
        stimuli
            ``(n, height, width)``.

        Returns
        -------
        ndarray of shape (n, n_positions * n_kernels)
            ``relu(kernel . window + bias)`` in single precision, for each position (row by row) all kernels in turn.
        """
        n_kernels, height, width = self.kernels.shape
        pad = [(0, 0), (0, height - self.stride), (0, width - self.stride)]
        flat = self.kernels.reshape(n_kernels, -1).T.astype(np.float32)
        blocks = []
        for start in range(0, len(stimuli), 256):  # the windows of 256 images at once, to bound the memory
            images = np.pad(np.asarray(stimuli[start : start + 256], np.float32), pad)
            windows = np.lib.stride_tricks.sliding_window_view(images, (height, width), axis=(1, 2))
            windows = windows[:, :: self.stride, :: self.stride].reshape(len(images), -1, height * width)
            blocks.append(np.maximum(windows @ flat + self.biases.astype(np.float32), 0).reshape(len(images), -1))
        return np.concatenate(blocks)
