"""What requests to Cloud Storage and calls of Dataflow's API need, as Google documents it.

Storage: "IAM permissions for JSON methods". Dataflow: "Access control with IAM", required permissions; and the role
Dataflow Worker, "Dataflow roles and permissions". As read in November 2026.
"""

from __future__ import annotations

import re

DATAFLOW = {
    "create_job": "dataflow.jobs.create",
    "get_job": "dataflow.jobs.get",
    "get_job_metrics": "dataflow.metrics.get",
    "list_job_messages": "dataflow.messages.list",
    "list_jobs": "dataflow.jobs.list",
    "update_job": "dataflow.jobs.cancel",  # Beam asks for the state cancelled, and for nothing else
}
"""Method of Google's client for Dataflow -> permission."""

DATAFLOW_WORKER = {
    "autoscaling.sites.readRecommendations",
    "autoscaling.sites.writeMetrics",
    "autoscaling.sites.writeState",
    "compute.instanceGroupManagers.update",
    "compute.instances.delete",
    "compute.instances.setDiskAutoDelete",
    "dataflow.jobs.get",
    "dataflow.shuffle.read",
    "dataflow.shuffle.write",
    "dataflow.streamingWorkItems.ImportState",
    "dataflow.streamingWorkItems.commitWork",
    "dataflow.streamingWorkItems.getData",
    "dataflow.streamingWorkItems.getWork",
    "dataflow.streamingWorkItems.getWorkerMetadata",
    "dataflow.workItems.lease",
    "dataflow.workItems.sendMessage",
    "dataflow.workItems.update",
    "logging.logEntries.create",
    "logging.logEntries.route",
    "monitoring.timeSeries.create",
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.get",
}
"""What roles/dataflow.worker holds."""

_METHODS = [
    (r"GET /storage/v1/b/[^/?]+\?.*projection=full", {"storage.buckets.get", "storage.buckets.getIamPolicy"}),
    (r"GET /storage/v1/b/[^/?]+(\?|$)", {"storage.buckets.get"}),
    (r"GET /storage/v1/b/[^/?]+/o(\?|$)", {"storage.objects.list"}),
    (r"GET (/download)?/storage/v1/b/[^/?]+/o/", {"storage.objects.get"}),
    (
        r"POST /upload/storage/v1/b/[^/?]+/o\?.*ifGenerationMatch=[1-9]",
        {"storage.objects.create", "storage.objects.delete"},
    ),
    (r"POST /upload/storage/v1/b/[^/?]+/o\?", {"storage.objects.create"}),
    (r"PUT /upload/storage/v1/b/[^/?]+/o\?.*upload_id=", {"storage.objects.create"}),
    (r"DELETE /storage/v1/b/[^/?]+/o/", {"storage.objects.delete"}),
    (r"PATCH /storage/v1/b/[^/?]+/o/", {"storage.objects.get", "storage.objects.update"}),
]
"""Start of a request -> permissions; the first that matches counts."""


def needed(request: str) -> set[str]:
    """Permissions of one request: "GET /storage/v1/b/...". ValueError: a method that the table does not know."""
    for pattern, found in _METHODS:
        if re.match(pattern, request):
            return found
    raise ValueError(f"what does it need? {request.partition('?')[0]}")


def bucket_of(request: str) -> str:
    """The bucket that a request is about."""
    found = re.search(r"/b/([^/?]+)", request)
    assert found, request
    return found.group(1)
