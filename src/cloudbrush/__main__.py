"""`python -m cloudbrush` is the command line."""

from cloudbrush.cli.app import main

main()
