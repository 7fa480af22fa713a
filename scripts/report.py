import sys

from seqmodels.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
