"""Sharded data: webdataset tar files and parquet row groups, read by index."""
