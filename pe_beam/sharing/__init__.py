"""Turns a complete release into what other places ask for, from its own files and nothing beside them.

`share` writes one of the forms. `huggingface` makes a dataset folder with a data card, `registry` an entry of OpenDP's
registry of deployments, `checklist` answers to the topics of NIST SP 800-226, `histograms` a CSV of the noisy votes.
`facts` reads what all of them say. No module opens a recipe's parts, a ledger or a private file.

May import: releases, privacy, contracts, names, numbers, wording, errors; Arrow, PyYAML.
"""
