"""Circuits with known weights, and random stimuli with known statistics.

The circuits are the simulated retinas of Bagherian, Gornet, Bernstein, Ni, Yue and Meister, Fine-grained system
identification of nonlinear neural circuits, KDD 2021, following the authors' public code (CC0). The stimuli of that
paper are not public; :func:`stimuli` describes the ones used here.
"""

from ._retina import RetinaCircuit, retina_circuit
from ._stimuli import stimuli

__all__ = ["RetinaCircuit", "retina_circuit", "stimuli"]
