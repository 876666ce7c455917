"""What the registry keeps in PostgreSQL. Every function works in its caller's transaction."""
