# Nothing for Python in here: only what other kernels cimport.
