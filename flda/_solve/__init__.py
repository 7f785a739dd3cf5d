"""The exact solution: inverses of the shrunken scatter, and axes in the space of the groups."""
