"""`python -m ownlm.cli` is `ownlm`."""

from ownlm.cli.main import main

main()
