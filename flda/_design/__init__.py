"""Labels to a factorial design: groups, effects, samples and splits. Labels and small matrices only."""
