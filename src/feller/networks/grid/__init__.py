"""Networks for regular grids of one, two or three dimensions, such as time series, fields and volumes."""
