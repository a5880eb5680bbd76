"""Arrays of numbers with channels: time series, fields, volumes and videos."""
