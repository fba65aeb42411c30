"""Manifests of a job: the Kustomize tree of `pipelines/k8s` (`deploy/k8s` of a checkout), fit to the job."""
