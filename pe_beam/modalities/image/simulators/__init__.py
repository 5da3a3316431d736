"""Generators of pictures without a neural network: a public set of pictures, a program, avatars."""
