"""Stand-ins for services this project talks to, for anybody's tests; they import nothing else of ours."""
