"""Models for other programs, and networks of others as models: velocities, exported files, wrapped networks."""
