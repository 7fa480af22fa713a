import sys

from seqmodels.cli import main

sys.exit(main(["replay", *sys.argv[1:]]))
