"""Access to arrays of every kind in blocks of rows: NumPy, scipy.sparse, dask, files and GPUs."""
