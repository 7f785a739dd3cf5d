"""The exact solution: solvers for the shrunken within-group scatter, axes in group space, and sparse axes."""
