"""What is remembered: records in SQL, bytes in a blob store, each behind a small seam."""
