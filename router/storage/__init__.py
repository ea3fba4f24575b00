"""What Figueira keeps: PostgreSQL, embedded or outside."""
