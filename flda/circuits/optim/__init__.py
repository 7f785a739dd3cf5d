"""Optimisers for circuits as optax gradient transformations, implemented from the equations of their papers.

================================  =====================================  =============================
transformation                    what every step keeps                  what it cannot do
================================  =====================================  =============================
:func:`madam`                     every sign and every zero              leave zero, or change a sign
:func:`integer_madam`             every sign; weights on a grid of logs  come near zero
:func:`exponentiated_gradient`    every sign and every zero              leave zero, or change a sign
:func:`nero`                      mean 0 and norm 1 of every neuron      keep signs
``nero(balanced=False, ...)``     norm 1, optionally no negative weight  fit the norm
:func:`proximal_adam`             known signs; it reaches exact zeros
================================  =====================================  =============================

Bytes that a layer of p weights and q neurons takes, weights included, in single precision: Adam 12 p, Madam 8 p,
integer Madam 6 p + p / 8 with 9 to 16 bits and 5 p + p / 8 with 8 bits or fewer (of which the weights themselves are
2 p + p / 8 or p + p / 8), exponentiated gradient 4 p, Nero 4 p + 4 q, proximal Adam 12 p.

All of them need ``params`` in ``update``. At a constant learning rate their weights jitter around the solution, so
let the learning rate decay.
"""

from ._madam import exponentiated_gradient, integer_madam, integer_weights, madam
from ._nero import nero, nero_project
from ._proximal import proximal_adam, proximal_l1

__all__ = [
    "exponentiated_gradient",
    "integer_madam",
    "integer_weights",
    "madam",
    "nero",
    "nero_project",
    "proximal_adam",
    "proximal_l1",
]
