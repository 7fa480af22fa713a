import sys

from seqmodels.cli import main

sys.exit(main(["search", *sys.argv[1:]]))
