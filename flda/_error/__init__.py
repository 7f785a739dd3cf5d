"""The error model: the units of every effect, the statistic that judges it, and its distribution by chance."""
