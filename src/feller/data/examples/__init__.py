"""Example data sets that need no download; sources and licences are in `NOTICE.md`."""
