"""What comes back from Ray: rows are collected into finished videos, turned into rows of the result, and committed."""
