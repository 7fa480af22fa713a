"""C++ kernels printed from traced updates: graph -> printer -> build, and the loops around them."""
