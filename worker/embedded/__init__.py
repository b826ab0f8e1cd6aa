"""PostgreSQL and Redis from wheels, for a machine without them: on loopback, with a password, under one directory."""
