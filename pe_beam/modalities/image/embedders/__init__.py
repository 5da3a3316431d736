"""Embedders of images that compute on torch: published networks, each behind the base class `backbone.Backbone`."""
