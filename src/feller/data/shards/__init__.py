"""Examples in shards, which are read as they are needed: tar files of webdataset, and files of .parquet."""
