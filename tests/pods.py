"""What a namespace with Kubernetes' `restricted` Pod Security Standard asks of a pod."""

from __future__ import annotations

from typing import Any


def demand_few_rights(spec: dict[str, Any]) -> None:
    """Fails where a pod's specification asks for more rights than the standard allows, or has a token of Kubernetes."""
    assert spec["automountServiceAccountToken"] is False, "it asks nothing of Kubernetes"
    told = spec["securityContext"]
    assert told["runAsNonRoot"] is True
    assert told["runAsUser"] > 0
    assert told["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
