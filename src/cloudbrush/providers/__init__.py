"""Where workers live and how bytes reach them, one file per technology."""
