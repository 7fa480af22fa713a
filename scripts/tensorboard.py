import sys

from seqmodels.cli import main

sys.exit(main(["tensorboard", *sys.argv[1:]]))
