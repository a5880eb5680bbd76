"""From a path, a DataFrame or arrays to a data set."""
