"""The code-generation report: what the compilers made of every kernel of the built-in networks, without a GPU.

python -m cnn.kernels.cuda.codegen --suite cifar-cnn --sm 90
"""
