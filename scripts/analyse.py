import sys

from seqmodels.cli import main

sys.exit(main(["analyse", *sys.argv[1:]]))
