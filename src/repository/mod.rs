//! Snapshots in an object store. Knows nothing of Kubernetes.
