import sys

from seqmodels.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
