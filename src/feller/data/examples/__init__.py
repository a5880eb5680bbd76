"""Example data sets that need no download; `NOTICE.md` has sources and licences."""
