"""One picture for each paper, drawn by its reproduction; `python docs/pictures/gallery.py` makes them all."""
