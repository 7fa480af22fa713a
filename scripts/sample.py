import sys

from seqmodels.cli import main

sys.exit(main(["sample", *sys.argv[1:]]))
