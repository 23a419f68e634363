"""Models of deep learning, written in graphc: see README.md."""
