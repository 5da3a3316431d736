"""Custody of a run's secret outside its run directory, behind `pe_beam.contracts.custody`, a file a provider.

`keeping` makes, reads and destroys the secret of a run directory, wherever it lies. `asking` is what the services
share. `google`, `aws` and `azure` are services, `driver_file` is a disk. Another one is an entry point of the group
`pe_beam.custody`; `suite` is the contract as a check.

May import: contracts, privacy, storage, registry, errors.
"""
