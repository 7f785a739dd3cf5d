"""From labels to a factorial design: groups, effects, samples and splits. Only labels and small matrices are used."""
