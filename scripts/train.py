import sys

from seqmodels.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
