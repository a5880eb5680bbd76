"""Reading data sets from paths, data frames and arrays."""
