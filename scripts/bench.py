import sys

from seqmodels.cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
