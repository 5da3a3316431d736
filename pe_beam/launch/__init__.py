"""Programs with typed parameters, and what is generated from the parameters for services that launch the programs.

`parameters` has the table of a program, of which its argument parser is made. `flex` makes the metadata and the specs
of Flex Templates for Dataflow of the same tables.

May import: console, errors.
"""
