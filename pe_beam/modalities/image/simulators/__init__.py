"""Generators of pictures that are no neural networks: a public set of pictures, a program, avatars."""
